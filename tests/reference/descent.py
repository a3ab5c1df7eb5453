"""Masks by gradient descent a second time: one row, Adam written out, enlargement and blur as loops over pixels."""

import math

import torch


def enlarge(mask, height, width):
    """Bilinear enlargement with pixel centres aligned, (h, w) to (height, width), as a matrix product of weights."""
    down, across = (weights(new, old, mask.dtype) for new, old in ((height, mask.shape[0]), (width, mask.shape[1])))
    return down @ mask @ across.T


def weights(new, old, dtype):
    out = torch.zeros(new, old, dtype=dtype)
    for i in range(new):
        place = max(0.0, (i + 0.5) * old / new - 0.5)
        low = int(place)
        high = min(low + 1, old - 1)
        out[i, low] += 1 - (place - low)
        out[i, high] += place - low
    return out


def variation(mask):
    """Mean |difference to the neighbour|³ down and across."""
    height, width = mask.shape
    down = sum((mask[i + 1, j] - mask[i, j]).abs() ** 3 for i in range(height - 1) for j in range(width))
    across = sum((mask[i, j + 1] - mask[i, j]).abs() ** 3 for i in range(height) for j in range(width - 1))
    return down / ((height - 1) * width) + across / (height * (width - 1))


def descend(loss, mask, steps, rate=0.1):
    """Adam (0.9, 0.999, 1e-8) on a mask kept in [0, 1]; ``loss(mask, step)``."""
    first = second = torch.zeros_like(mask)
    for step in range(steps):
        mask = mask.detach().requires_grad_()
        (grad,) = torch.autograd.grad(loss(mask, step), mask)
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        move = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        mask = (mask.detach() - rate * move).clamp(0, 1)
    return mask


def small_blur(x, size=11, sigma=5.0):
    """OpenCV's Gaussian blur of a picture (C, H, W): a square of pixels, mirrored without repeating the border."""
    _, height, width = x.shape
    reach, out = size // 2, torch.zeros_like(x)
    for h in range(height):
        for w in range(width):
            total, norm = 0.0, 0.0
            for i in range(-reach, reach + 1):
                for j in range(-reach, reach + 1):
                    weight = math.exp(-(i * i + j * j) / (2 * sigma**2))
                    total = total + weight * x[:, mirrored(h + i, height), mirrored(w + j, width)]
                    norm += weight
            out[:, h, w] = total / norm
    return out


def mirrored(place, size):
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place
