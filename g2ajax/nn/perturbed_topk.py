"""The choice of the k best of N by scores, with a gradient: the perturbed optimizer.

Berthet et al., "Learning with Differentiable Perturbed Optimizers", NeurIPS 2020; for top-k Cordonnier
et al., "Differentiable Patch Selection for Image Recognition", CVPR 2021.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Gradient = Literal["code", "full"]


def hard_topk(scores: Float[Array, "... N"], k: int) -> Int[Array, "... k"]:
    """Indices of the k highest scores of each row, in ascending order.

    Raises ValueError unless 1 <= k <= N.
    """
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"the {k} highest of {scores.shape[-1]} scores: expected 1 to all of them")
    return jnp.sort(jax.lax.top_k(scores, k)[1], axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def perturbed_topk(
    scores: Float[Array, "B N"],
    noise: Float[Array, "B n N"],
    k: int,
    sigma: float = 0.05,
    gradient: Gradient = "code",
) -> Float[Array, "B k N"]:
    """The mean over n draws of the one-hot rows of `hard_topk(scores + sigma * noise)`, float32.

    Row i says how often each of the N was the i-th of the chosen ones in ascending order. With
    Y the one-hot rows [B,n,k,N], Z the noise (standard normal) and G the cotangent, the estimate of
    the gradient of the scores is, "full" (Berthet et al.):
    ds[d] = 1/(n sigma) sum_m sum_{i,e} G[i,e] Y[m,i,e] Z[m,d]; "code" keeps the terms e = d only, as
    the code of DTS does. No gradient goes to the noise.

    Sums are scattered into their places, so that no array is larger than the noise or [B,n,k].

    Raises ValueError unless 1 <= k <= N.
    """
    return _forward(scores, noise, k, sigma, gradient)[0]


def _forward(scores, noise, k, sigma, gradient):
    scores, noise = scores.astype(jnp.float32), noise.astype(jnp.float32)
    index = hard_topk(scores[:, None] + sigma * noise, k)  # [B n k]

    def frequencies(index: Int[Array, "n k"]) -> Float[Array, "k N"]:
        zeros = jnp.zeros((k, noise.shape[-1]), jnp.float32)
        return zeros.at[jnp.arange(k), index].add(1.0 / len(index))

    return jax.vmap(frequencies)(index), (index, noise)


def _backward(k, sigma, gradient, saved, cotangent):
    def row(
        index: Int[Array, "n k"], noise: Float[Array, "n N"], cotangent: Float[Array, "k N"]
    ) -> Float[Array, " N"]:
        weight = cotangent[jnp.arange(k), index] / (len(index) * sigma)  # G where Y is 1, [n k]
        if gradient == "full":
            return jnp.matmul(weight.sum(-1), noise, precision="highest")
        own = jnp.take_along_axis(noise, index, axis=1)
        return jnp.zeros(noise.shape[-1:], jnp.float32).at[index].add(weight * own)

    return jax.vmap(row)(*saved, cotangent), None


perturbed_topk.defvjp(_forward, _backward)
