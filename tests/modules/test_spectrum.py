"""The amplitude spectrum and the discriminator's preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.discriminator import Discriminator, Preprocessing
from modules.spectrum import BAND_RADIUS, amplitude_spectrum, band_mask
from utils.errors import UserError

TINY = "tf_efficientnet_lite0"


def test_amplitude_is_numpys() -> None:
    values = torch.rand(2, 3, 12, 10, dtype=torch.float64)
    expected = np.fft.fftshift(np.abs(np.fft.fft2(values.numpy())), axes=(-2, -1))
    np.testing.assert_allclose(amplitude_spectrum(values, "raw").numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(amplitude_spectrum(values).numpy(), np.log1p(expected), rtol=1e-4, atol=1e-4)


def test_amplitude_knows_no_place() -> None:
    """Phase is dropped: an image moved round the edges has the same amplitude, a mirrored one the mirrored amplitude."""
    values = torch.rand(1, 3, 16, 16)
    moved = torch.roll(values, (3, 5), dims=(-2, -1))
    torch.testing.assert_close(
        amplitude_spectrum(moved, "raw"), amplitude_spectrum(values, "raw"), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(moved, values)


def test_zero_frequency_is_in_the_middle() -> None:
    found = amplitude_spectrum(torch.ones(1, 1, 8, 8), "raw")[0, 0]
    assert found[4, 4] == 64 and found.sum() == pytest.approx(64, abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 8), (9, 12)])
def test_bands_share_the_spectrum(shape: tuple[int, int]) -> None:
    low, high = band_mask(*shape, "low"), band_mask(*shape, "high")
    assert torch.equal(low + high, band_mask(*shape, "all"))
    assert low[shape[0] // 2, shape[1] // 2] == 1 and high[0, 0] == 1
    assert 0 < low.mean() < BAND_RADIUS


def test_half_precision_is_taken_in_full() -> None:
    values = torch.rand(1, 3, 32, 32)
    assert amplitude_spectrum(values.bfloat16(), "raw").dtype == torch.float32


def test_standardised_on_the_band_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Preprocessing(TINY, band="low", size=32))
    images = torch.rand(16, 3, 32, 32)
    values = discriminator.prepare(images)
    mask = discriminator.mask(values)
    total, squares = (values * mask).double().sum((0, 2, 3)), ((values * mask).double() ** 2).sum((0, 2, 3))
    discriminator.fit_statistics((total, squares, len(values) * float(mask.sum())))
    found = discriminator.standardise(values)
    kept = found[:, :, mask.bool()]
    assert kept.mean((0, 2)).abs().max() < 1e-4 and (kept.std((0, 2)) - 1).abs().max() < 1e-2
    assert found[:, :, ~mask.bool()].abs().max() == 0


def test_output_and_parts_agree() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Preprocessing(TINY, size=64)).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        whole = discriminator(images)
        torch.testing.assert_close(discriminator.classify(discriminator.prepare(images)), whole)
    assert whole.shape == (2, 2)


def test_encoder_is_neither_trained_nor_saved() -> None:
    encoder = torch.nn.Conv2d(3, 5, 3, padding=1)
    discriminator = Discriminator(Preprocessing(TINY, features="encoder", size=32), encoder, 5)
    assert not any("encoder" in key for key in discriminator.state_dict())
    assert not {id(p) for p in encoder.parameters()} & {id(p) for p in discriminator.parameters()}
    assert discriminator(torch.rand(2, 3, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"band": "middle"}, "--band middle"),
        ({"amplitude": "sqrt"}, "--amplitude sqrt"),
        ({"size": 8}, "--size 8"),
        ({"network": "no_such_net"}, "--network no_such_net"),
        ({"features": "encoder"}, "--features encoder"),
    ],
)
def test_wrong_options_are_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Discriminator(Preprocessing(**{"network": TINY, **change}))
