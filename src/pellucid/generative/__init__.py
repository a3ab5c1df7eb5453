"""Generative models whose latents or attributes explanations can be about, and how good they are."""

from pellucid.generative.autoencoder import VAE
from pellucid.generative.dci import DCI, dci
from pellucid.generative.fit import Fitted, fit
from pellucid.generative.learner import Learner, Step
from pellucid.generative.quality import disentanglement, flips, mutual_information_gap, reconstruction
from pellucid.generative.translator import translator
from pellucid.generative.vae import beta_tcvae, joint_vae, supervised_vae

__all__ = [
    "DCI",
    "VAE",
    "Fitted",
    "Learner",
    "Step",
    "beta_tcvae",
    "dci",
    "disentanglement",
    "fit",
    "flips",
    "joint_vae",
    "mutual_information_gap",
    "reconstruction",
    "supervised_vae",
    "translator",
]
