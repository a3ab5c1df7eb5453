"""The names readers know methods by, and the papers behind them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication as the report lists it; ``key`` is its key in docs/references.bib."""

    key: str
    text: str
    url: str


PAPERS = {
    paper.key: paper
    for paper in (
        Paper(
            "adebayo2018",
            "Adebayo et al. 2018. Sanity checks for saliency maps. NeurIPS 31.",
            "https://arxiv.org/abs/1810.03292",
        ),
        Paper(
            "ancona2018",
            "Ancona et al. 2018. Towards better understanding of gradient-based attribution methods. ICLR.",
            "https://arxiv.org/abs/1711.06104",
        ),
        Paper(
            "bach2015",
            "Bach et al. 2015. On pixel-wise explanations by layer-wise relevance propagation. PLoS ONE 10(7).",
            "https://doi.org/10.1371/journal.pone.0130140",
        ),
        Paper("banzhaf1965", "Banzhaf 1965. Weighted voting doesn't work. Rutgers Law Review 19.", ""),
        Paper(
            "castro2009",
            "Castro, Gómez and Tejada 2009. Polynomial calculation of the Shapley value. Computers & OR 36(5).",
            "https://doi.org/10.1016/j.cor.2008.04.004",
        ),
        Paper(
            "castro2017",
            "Castro et al. 2017. Improving polynomial estimation of the Shapley value by stratified random sampling. "
            "Computers & OR 82.",
            "https://doi.org/10.1016/j.cor.2017.01.019",
        ),
        Paper(
            "chattopadhay2018",
            "Chattopadhay et al. 2018. Grad-CAM++: generalized gradient-based visual explanations. WACV.",
            "https://doi.org/10.1109/WACV.2018.00097",
        ),
        Paper(
            "covert2021",
            "Covert and Lee 2021. Improving KernelSHAP. AISTATS, PMLR 130.",
            "https://proceedings.mlr.press/v130/covert21a.html",
        ),
        Paper(
            "datta2016",
            "Datta, Sen, Zick 2016. Algorithmic transparency via quantitative input influence. IEEE S&P.",
            "https://doi.org/10.1109/SP.2016.42",
        ),
        Paper(
            "efron1979",
            "Efron 1979. Bootstrap methods: another look at the jackknife. The Annals of Statistics 7(1).",
            "https://doi.org/10.1214/aos/1176344552",
        ),
        Paper(
            "erion2021",
            "Erion et al. 2021. Axiomatic attribution priors and expected gradients. Nature Machine Intelligence 3(7).",
            "https://doi.org/10.1038/s42256-021-00343-w",
        ),
        Paper(
            "fong2017",
            "Fong and Vedaldi 2017. Interpretable explanations of black boxes by meaningful perturbation. ICCV.",
            "https://doi.org/10.1109/ICCV.2017.371",
        ),
        Paper(
            "friedman2004",
            "Friedman 2004. Paths and consistency in additive cost sharing. International J. of Game Theory 32(4).",
            "https://doi.org/10.1007/s001820400173",
        ),
        Paper(
            "holm1979",
            "Holm 1979. A sequentially rejective multiple test procedure. Scandinavian J. of Statistics 6(2).",
            "",
        ),
        Paper(
            "hsieh2021",
            "Hsieh et al. 2021. Evaluations and methods for explanation through robustness analysis. ICLR.",
            "https://arxiv.org/abs/2006.00442",
        ),
        Paper(
            "lundberg2017",
            "Lundberg and Lee 2017. A unified approach to interpreting model predictions. NeurIPS 30.",
            "https://arxiv.org/abs/1705.07874",
        ),
        Paper(
            "petsiuk2018",
            "Petsiuk, Das and Saenko 2018. RISE: randomized input sampling for explanation of black-box models. BMVC.",
            "https://arxiv.org/abs/1806.07421",
        ),
        Paper(
            "ribeiro2016",
            "Ribeiro, Singh and Guestrin 2016. “Why should I trust you?” KDD.",
            "https://doi.org/10.1145/2939672.2939778",
        ),
        Paper(
            "ribeiro2018",
            "Ribeiro, Singh and Guestrin 2018. Anchors: high-precision model-agnostic explanations. AAAI 32(1).",
            "https://doi.org/10.1609/aaai.v32i1.11491",
        ),
        Paper(
            "samek2017",
            "Samek et al. 2017. Evaluating the visualization of what a network has learned. IEEE TNNLS 28(11).",
            "https://doi.org/10.1109/TNNLS.2016.2599820",
        ),
        Paper(
            "selvaraju2017",
            "Selvaraju et al. 2017. Grad-CAM: visual explanations from deep networks. ICCV.",
            "https://doi.org/10.1109/ICCV.2017.74",
        ),
        Paper(
            "seo2018",
            "Seo et al. 2018. Noise-adding methods of saliency map as series of higher order partial derivative.",
            "https://arxiv.org/abs/1806.03000",
        ),
        Paper(
            "shapley1953",
            "Shapley 1953. A value for n-person games. Contributions to the Theory of Games II.",
            "https://doi.org/10.1515/9781400881970-018",
        ),
        Paper(
            "shrikumar2016", "Shrikumar et al. 2016. Not just a black box. arXiv.", "https://arxiv.org/abs/1605.01713"
        ),
        Paper(
            "simonyan2014",
            "Simonyan, Vedaldi and Zisserman 2014. Deep inside convolutional networks. ICLR workshop.",
            "https://arxiv.org/abs/1312.6034",
        ),
        Paper(
            "smilkov2017",
            "Smilkov et al. 2017. SmoothGrad: removing noise by adding noise. arXiv.",
            "https://arxiv.org/abs/1706.03825",
        ),
        Paper(
            "strumbelj2014",
            "Štrumbelj and Kononenko 2014. Explaining prediction models with feature contributions. KAIS 41(3).",
            "https://doi.org/10.1007/s10115-013-0679-x",
        ),
        Paper(
            "sundararajan2017",
            "Sundararajan, Taly and Yan 2017. Axiomatic attribution for deep networks. ICML, PMLR 70.",
            "https://arxiv.org/abs/1703.01365",
        ),
        Paper(
            "wilcoxon1945",
            "Wilcoxon 1945. Individual comparisons by ranking methods. Biometrics Bulletin 1(6).",
            "https://doi.org/10.2307/3001968",
        ),
        Paper(
            "yeh2019",
            "Yeh et al. 2019. On the (in)fidelity and sensitivity of explanations. NeurIPS 32.",
            "https://arxiv.org/abs/1901.09392",
        ),
        Paper(
            "zeiler2014",
            "Zeiler and Fergus 2014. Visualizing and understanding convolutional networks. ECCV.",
            "https://doi.org/10.1007/978-3-319-10590-1_53",
        ),
        Paper(
            "zhou2016",
            "Zhou et al. 2016. Learning deep features for discriminative localization. CVPR.",
            "https://doi.org/10.1109/CVPR.2016.319",
        ),
    )
}

# Recipe or metric → the name readers know, and its papers.
KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "saliency": ("Saliency", ("simonyan2014",)),
    "input_x_gradient": ("Input × gradient", ("shrikumar2016",)),
    "integrated_gradients": ("Integrated gradients", ("sundararajan2017",)),
    "path_integrated_gradients": ("Path integrated gradients", ("friedman2004", "sundararajan2017")),
    "expected_gradients": ("Expected gradients", ("erion2021",)),
    "smooth_grad": ("SmoothGrad", ("smilkov2017",)),
    "var_grad": ("VarGrad", ("seo2018",)),
    "cam": ("CAM", ("zhou2016",)),
    "grad_cam": ("Grad-CAM", ("selvaraju2017",)),
    "counterfactual_grad_cam": ("Counterfactual Grad-CAM", ("selvaraju2017",)),
    "grad_cam_plus_plus": ("Grad-CAM++", ("chattopadhay2018",)),
    "feature_ablation": ("Feature ablation", ("zeiler2014",)),
    "occlusion": ("Occlusion", ("zeiler2014",)),
    "rise": ("RISE", ("petsiuk2018",)),
    "lime": ("LIME", ("ribeiro2016",)),
    "lime_tabular": ("LIME for tables", ("ribeiro2016",)),
    "anchors": ("Anchors", ("ribeiro2018",)),
    "meaningful_perturbation": ("Meaningful perturbation", ("fong2017",)),
    "meaningful_perturbation_as_released": ("Meaningful perturbation, as released", ("hsieh2021",)),
    "exact_shapley": ("Exact Shapley", ("shapley1953",)),
    "permutation_shapley": ("Permutation Shapley", ("shapley1953", "castro2009", "castro2017")),
    "shapley_sampling": ("Shapley sampling", ("shapley1953", "strumbelj2014")),
    "kernel_shap": ("Kernel SHAP", ("shapley1953", "lundberg2017", "covert2021")),
    "regression_shapley": ("Regression Shapley", ("shapley1953", "covert2021")),
    "banzhaf": ("Banzhaf", ("banzhaf1965",)),
    "kernel_shap_lasso": ("Kernel SHAP with lasso", ("lundberg2017",)),
    "low_order_shap": ("Low-order SHAP", ("lundberg2017",)),
    "shapley_interactions": ("Shapley interactions", ("shapley1953",)),
    "linear_shap": ("Linear SHAP", ("lundberg2017",)),
    "linear_shap_correlated": ("Linear SHAP, correlated", ("lundberg2017",)),
    "max_shap": ("Max SHAP", ("lundberg2017",)),
    "tree_shap": ("Tree SHAP", ("lundberg2017",)),
    "shapley_regression_values": ("Shapley regression values", ("shapley1953",)),
    "unary_qii": ("Unary QII", ("datta2016",)),
    "set_qii": ("Set QII", ("datta2016",)),
    "qii": ("Shapley QII", ("datta2016",)),
    "greedy_as": ("Greedy-AS", ("hsieh2021",)),
    "greedy_as_released": ("Greedy-AS, as released", ("hsieh2021",)),
    "greedy": ("Greedy", ("hsieh2021",)),
    "counterfactual_cfx": ("Sparse counterfactual", ("hsieh2021",)),
    "one_step_banzhaf": ("One-step Banzhaf", ("hsieh2021",)),
    "random_attribution": ("Random control", ("samek2017",)),
    "random": ("Random control", ("samek2017",)),
    "aggregate": ("Mean rank of all", ()),
    "insertion": ("Insertion", ("samek2017", "petsiuk2018", "hsieh2021")),
    "deletion": ("Deletion", ("samek2017", "petsiuk2018", "hsieh2021")),
    "completeness": ("Completeness", ("sundararajan2017",)),
    "value_error": ("Value error", ("ribeiro2016",)),
    "sensitivity_n": ("Sensitivity-n", ("ancona2018",)),
    "infidelity": ("Infidelity", ("yeh2019",)),
    "robustness_relevant": ("Robustness, relevant", ("hsieh2021",)),
    "robustness_irrelevant": ("Robustness, irrelevant", ("hsieh2021",)),
    "sensitivity": ("Sensitivity", ("hsieh2021", "yeh2019")),
    "parameter_randomisation": ("Random weights", ("adebayo2018",)),
    "precision_at_k": ("Precision at k", ("hsieh2021",)),
}

STATISTICS = ("efron1979", "wilcoxon1945", "holm1979")
CHECKS = ("adebayo2018",)


def display(label: str) -> str:
    """A method's or metric's label as readers know it; what a user named stays as it is.

    >>> display("grad_cam"), display("saliency 2"), display("my method"), display("insertion, blur reference")
    ('Grad-CAM', 'Saliency 2', 'my method', 'Insertion, blur reference')
    """
    name = re.match(r"\w*", label)
    head = name.group() if name is not None else ""
    return KNOWN[head][0] + label[len(head) :] if head in KNOWN else label


def papers(names: set[str], scored: bool, checked: bool) -> list[Paper]:
    """The papers of some methods and metrics, of the statistics if anything was scored, and of the checks."""
    keys = {key for name in names if name in KNOWN for key in KNOWN[name][1]}
    keys |= set(STATISTICS if scored else ()) | set(CHECKS if checked else ())
    return [PAPERS[key] for key in sorted(keys)]
