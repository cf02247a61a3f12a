"""What a discriminator looks at beside the spectrum: bands, pixels, pooled features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.discriminator import Discriminator, Preprocessing
from modules.inputs import INPUTS
from modules.inputs.bands import BANDS, Bands
from modules.inputs.encoder import Pooled
from utils.errors import UserError

TINY = "test_resnet"


@pytest.mark.parametrize("scale", ["log", "raw"])
def test_bands_are_means_of_rings(scale: str) -> None:
    values = torch.rand(2, 3, 40, 30)
    amplitude = np.fft.fftshift(np.abs(np.fft.fft2(values.double().numpy())), axes=(-2, -1))
    amplitude = np.log1p(amplitude) if scale == "log" else amplitude
    rows, columns = np.fft.fftshift(np.fft.fftfreq(40)) * 2, np.fft.fftshift(np.fft.fftfreq(30)) * 2
    ring = np.minimum((np.hypot(rows[:, None], columns) * BANDS).astype(int), BANDS - 1)
    expected = np.stack([amplitude[:, :, ring == k].mean(-1) for k in range(BANDS)], axis=-1)
    found = Bands(scale).prepare(values)
    assert found.shape == (2, 3 * BANDS, 1, 1) and Bands(scale).channels(3) == 3 * BANDS
    np.testing.assert_allclose(found.reshape(2, 3, BANDS).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_bands_know_no_direction_and_no_place() -> None:
    values = torch.rand(1, 3, 32, 32)
    bands = Bands("log")
    for same in (values.flip(-1), values.transpose(-1, -2), torch.roll(values, (3, 5), dims=(-2, -1))):
        torch.testing.assert_close(bands.prepare(same), bands.prepare(values), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(bands.prepare(values / 2), bands.prepare(values), atol=1e-2)


def test_a_small_feature_map_leaves_bands_empty() -> None:
    assert Bands("log").prepare(torch.rand(2, 5, 4, 4)).isfinite().all()


def test_pooled_are_mean_and_deviation() -> None:
    maps = torch.rand(2, 5, 4, 3)
    found = Pooled().prepare(maps.bfloat16().float())
    expected = maps.bfloat16().double().numpy().reshape(2, 5, 12)
    np.testing.assert_allclose(
        found[:, :, 0, 0].numpy(), np.concatenate([expected.mean(-1), expected.std(-1)], axis=1), rtol=1e-4
    )


@pytest.mark.parametrize("name", list(INPUTS))
def test_every_input_is_standardised_and_judged(name: str) -> None:
    torch.manual_seed(0)
    features = "encoder" if name == "encoder" else "image"
    encoder = torch.nn.Conv2d(3, 5, 3, padding=1) if name == "encoder" else None
    discriminator = Discriminator(Preprocessing(TINY, name, features, size=32), encoder, 5 if encoder else 3)
    images = torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        values = discriminator.prepare(images).double()
        sums = values.sum((0, 2, 3)), (values**2).sum((0, 2, 3)), float(values[:, 0].numel())
        discriminator.fit_statistics(sums)
        found = discriminator.standardise(values.float())
    assert found.mean((0, 2, 3)).abs().max() < 1e-2 and (found.std((0, 2, 3), correction=0) - 1).abs().max() < 5e-2
    assert discriminator.classify(values.float()).shape == (16, 2)
    assert discriminator.input.vector == (values.shape[-2:] == (1, 1))


@pytest.mark.parametrize("name", list(INPUTS))
def test_a_file_says_the_input_in_the_words_of_before(name: str) -> None:
    made = Preprocessing(TINY, name, "encoder", size=64)
    plain = made.plain()
    assert list(plain) == ["network", "source", "features", "amplitude", "band", "size"]
    assert plain["source"] == {"spectrum": "amplitude"}.get(name, name)
    assert Preprocessing.of(plain) == made


def test_what_is_no_preprocessing_is_refused() -> None:
    plain = Preprocessing().plain()
    for change in ({"size": "224"}, {"band": None}, {"other": 1}):
        with pytest.raises(TypeError, match=next(iter(change))):
            Preprocessing.of(plain | change)
    for change, said in (({"input": "phase"}, "--input phase: choose one"), ({"input": "encoder"}, "--input encoder")):
        with pytest.raises(UserError, match=said):
            Preprocessing(**change)
