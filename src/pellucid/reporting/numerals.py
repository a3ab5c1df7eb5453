"""Numbers as a reader should meet them: two or three significant figures, units, intervals beside means."""

from __future__ import annotations

import math

NONE = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(x: float | None, digits: int = 3) -> str:
    """A number with this many significant figures.

    >>> figure(0.123456), figure(-12.3456), figure(1234567.0), figure(float("nan"))
    ('0.123', '−12.3', '1.23 × 10⁶', '–')
    """
    if x is None or math.isnan(x):
        return NONE
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0:
        return "0"
    x = float(f"{x:.{digits - 1}e}")
    size = math.floor(math.log10(abs(x)))
    if size >= 6 or size < -4:
        mantissa, _, exponent = f"{x:.{digits - 1}e}".partition("e")
        return _minus(f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}")
    return fixed(x, max(0, digits - 1 - size))


def fixed(x: float, decimals: int) -> str:
    """A number with this many decimals, thousands apart.

    >>> fixed(-12345.678, 1)
    '−12,345.7'
    """
    text = f"{x:,.{decimals}f}"
    return _minus(text.lstrip("-") if float(text.replace(",", "")) == 0 else text)


def estimate(mean: float, low: float, high: float) -> tuple[str, str, str]:
    """A mean and its interval, all to the place that the interval's width supports, and to two figures at least.

    >>> estimate(12.3456, 11.87, 12.81), estimate(6.51, 5.2, 7.7), estimate(0.7123, float("nan"), float("nan"))
    (('12.3', '11.9', '12.8'), ('6.5', '5.2', '7.7'), ('0.712', '–', '–'))
    """
    half = (high - low) / 2
    if not (math.isfinite(half) and half > 0 and math.isfinite(mean)):
        return figure(mean), figure(low), figure(high)
    decimals = max(-math.floor(math.log10(half)), 1 - math.floor(math.log10(max(abs(low), abs(high)))))
    if decimals > 4 or max(abs(low), abs(high)) >= 1e6:
        return figure(mean), figure(low), figure(high)
    decimals = max(0, decimals)
    return fixed(mean, decimals), fixed(low, decimals), fixed(high, decimals)


def span(low: float, high: float, mean: float = math.nan) -> str:
    """An interval in words, or an empty text where there is none.

    >>> span(0.31, 0.42)
    '0.31 to 0.42'
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    _, lower, upper = estimate((low + high) / 2 if math.isnan(mean) else mean, low, high)
    return f"{lower} to {upper}"


def count(n: float | None) -> str:
    """A whole number, thousands apart.

    >>> count(25090)
    '25,090'
    """
    return NONE if n is None else f"{round(n):,}"


def percent(share: float | None) -> str:
    """A share of one as percent.

    >>> percent(0.953), percent(0.0042), percent(0.9999), percent(1e-9)
    ('95 %', '0.4 %', '> 99.9 %', '< 0.1 %')
    """
    if share is None or not math.isfinite(share):
        return NONE
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    decimals = 1 if 0 < share < 0.0095 or 0.99 <= share < 1 else 0
    return f"{share * 100:.{decimals}f} %"


def seconds(time: float | None) -> str:
    """A duration.

    >>> seconds(0.0123), seconds(3.21), seconds(134), seconds(7260)
    ('12 ms', '3.2 s', '2 min 14 s', '2 h 1 min')
    """
    if time is None or not math.isfinite(time):
        return NONE
    if time < 1:
        return "< 1 ms" if time < 0.0005 else f"{time * 1000:.0f} ms"
    if time < 60:
        return f"{time:.1f} s" if time < 9.95 else f"{time:.0f} s"
    whole = round(time)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(peak_bytes: float | None) -> str:
    """An amount of memory.

    >>> size(34_500_000), size(900), size(2.5e9)
    ('34 MB', '900 B', '2.5 GB')
    """
    if peak_bytes is None or not math.isfinite(peak_bytes):
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if peak_bytes < 999.5 or unit == "GB":
            break
        peak_bytes /= 1000
    return f"{peak_bytes:.1f} {unit}" if unit == "GB" else f"{peak_bytes:.0f} {unit}"


def probability(p: float | None) -> str:
    """A p-value, only ever printed beside the difference that it belongs to.

    >>> probability(0.0004), probability(0.0312), probability(0.4)
    ('p < .001', 'p = .031', 'p = .40')
    """
    if p is None or not math.isfinite(p):
        return ""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.095 else f"{p:.2f}"
    return f"p = {text.lstrip('0')}" if p < 0.995 else "p = 1.0"


def correlation(rho: float | None) -> str:
    """A correlation with two decimals and no leading zero.

    >>> correlation(0.714), correlation(-0.05), correlation(1.0)
    ('.71', '−.05', '1.00')
    """
    if rho is None or not math.isfinite(rho):
        return NONE
    text = _minus(f"{rho:.2f}")
    return text.removeprefix("−" if text == "−0.00" else "").replace("0.", ".", 1) if abs(rho) < 0.995 else text


def plural(n: int, noun: str, several: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "input"), plural(12, "input")
    ('1 input', '12 inputs')
    """
    return f"{count(n)} {noun if n == 1 else several or noun + 's'}"


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
