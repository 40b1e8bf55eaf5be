"""Simulation of a sensor: exposure, white balance, contrast, blur, noise, JPEG."""

import dataclasses
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Sensor:
    """Settings of a camera."""

    gain: float
    balance: tuple[float, float, float]
    """Gain of red, green and blue."""
    contrast: float
    """-1 (flat) to 1 (hard); 0 changes nothing."""
    haze: float
    """Share of grey haze."""
    saturation: float
    blur: float
    """Standard deviation of the defocus blur, in native pixels."""
    motion: int
    """Length of sideways motion blur in pixels; 0 or 1: none."""
    noise: float
    """Standard deviation at mid grey, on a scale of 0..1."""
    quality: int


def resample(image: Float[np.ndarray, "h w 3"], times: int) -> Float[np.ndarray, "H W 3"]:
    """Enlarges an image by an integer factor, bilinearly."""
    if times == 1:
        return image
    for axis in (0, 1):
        padded = np.concatenate([image.take([0], axis), image, image.take([-1], axis)], axis)
        count = image.shape[axis]
        at = (np.arange(count * times) + 0.5) / times + 0.5
        low = at.astype(np.intp)
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        image = padded.take(low, axis) * (1 - share) + padded.take(low + 1, axis) * share
    return image


def _smooth(image: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    reach = len(weights) // 2
    count = image.shape[axis]
    at = np.clip(np.arange(-reach, count + reach), 0, count - 1)
    padded = image.take(at, axis)
    result = None
    for i, weight in enumerate(weights.astype(np.float32)):
        part = padded[i : i + count] if axis == 0 else padded[:, i : i + count]
        result = part * weight if result is None else result + part * weight
    return result


def expose(
    light: Float[np.ndarray, "h w 3"], sensor: Sensor, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Converts the light that reaches the sensor into an image."""
    image = light
    if sensor.blur > 0.3:
        s2 = 2 * sensor.blur * sensor.blur
        # A rational bell curve: exponentials are rounded differently on different machines.
        reach = 1 if sensor.blur < 0.8 else 2
        at = np.arange(-reach, reach + 1, dtype=np.float64)
        weights = 1.0 / (1.0 + at**2 / s2 + (at**2 / s2) ** 2 / 2)
        weights /= weights.sum()
        image = _smooth(_smooth(image, weights, 0), weights, 1)
    if sensor.motion > 1:
        image = _smooth(
            image, np.full(2 * (sensor.motion // 2) + 1, 1 / (2 * (sensor.motion // 2) + 1)), 1
        )
    image = image * (np.asarray(sensor.balance, np.float32) * np.float32(sensor.gain))
    # Highlights saturate softly.
    image = np.maximum(image, 0)
    image = image * (1 + image * np.float32(0.2)) / (1 + image * np.float32(0.42))
    grey = (image[..., 0] + image[..., 1] + image[..., 2]) * np.float32(1 / 3)
    image = grey[..., None] + (image - grey[..., None]) * np.float32(sensor.saturation)
    image = image + (image * (1 - image) * (image - np.float32(0.45))) * np.float32(
        2.5 * sensor.contrast
    )
    image = image * np.float32(1 - sensor.haze) + np.float32(0.62 * sensor.haze)
    strength = np.float32(sensor.noise) * (np.float32(0.5) + np.sqrt(np.clip(image, 0, 1)))
    # Noise as a sum of two integers: without logarithms all machines round it alike.
    dice = rng.integers(0, 128, image.shape, np.uint8), rng.integers(0, 128, image.shape, np.uint8)
    noise = (dice[0] + dice[1]).astype(np.float32) * np.float32(1 / 52) - np.float32(127 / 52)
    image = image + noise * strength
    return (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> bytes:
    """Encodes an image as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
