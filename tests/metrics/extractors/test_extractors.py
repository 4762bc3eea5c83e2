from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.metrics import samples as sm
from latentbench.metrics.extractors import networks as nw
from latentbench.metrics.extractors.inception import Inception, inception, resize_like_tensorflow
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return (data.images * 15).astype(np.uint8), data.target


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_pixels_are_the_images_themselves(digits):
    features = nw.pixels().features(digits[0][:5])
    np.testing.assert_allclose(features, digits[0][:5].reshape(5, 64) / 255, rtol=1e-6)


def test_layouts_are_told_apart():
    last = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    net = nw.random_network(3)
    np.testing.assert_array_equal(net.features(last), net.features(last.transpose(0, 3, 1, 2)))
    for bad in (last / 1.0 - 1, last * 2.0, last[0, 0], np.zeros((0, 4, 4))):
        with pytest.raises(UserError, match="images"):
            net.features(bad)


def test_random_network_is_its_seed_and_not_torch_s_global_state(digits):
    torch.manual_seed(1)
    first = nw.random_network(1)
    torch.manual_seed(2)
    second, other = nw.random_network(1), nw.random_network(1, seed=5)
    assert first.identity == second.identity != other.identity
    assert (first.name, other.name) == ("random", "random5")
    np.testing.assert_array_equal(first.features(digits[0][:9]), second.features(digits[0][:9]))
    np.testing.assert_allclose(first.features(digits[0][:9], batch=2), first.features(digits[0][:9]), atol=1e-5)


def test_features_tell_noise_from_digits(digits):
    noise = np.random.default_rng(0).integers(0, 241, digits[0].shape, dtype=np.uint8)
    for extractor in (nw.pixels(), nw.random_network(1)):
        real = extractor.features(digits[0])
        same = sm.frechet_distance(real[::2], real[1::2])
        assert sm.frechet_distance(real, extractor.features(noise)) > 20 * same


def test_lenet_learns_saves_and_loads(digits, tmp_path):
    images, labels = digits
    network = nw.train_lenet(images[:1400], labels[:1400], generator=generator(), epochs=4)
    trained = nw.lenet(network, "digits")
    assert trained.name == "lenet_digits"
    accuracy = (trained.logits(images[1400:]).argmax(1) == labels[1400:]).mean()
    assert accuracy > 0.8
    assert trained.features(images[:3]).shape == (3, 84)
    nw.save_lenet(network, "digits", tmp_path / "lenet.safetensors")
    loaded = nw.load_lenet(tmp_path / "lenet.safetensors")
    assert (loaded.name, loaded.identity) == (trained.name, trained.identity)
    np.testing.assert_array_equal(loaded.features(images[:9]), trained.features(images[:9]))
    again = nw.train_lenet(images[:200], labels[:200], generator=generator(3), epochs=1)
    torch.manual_seed(99)
    repeated = nw.train_lenet(images[:200], labels[:200], generator=generator(3), epochs=1)
    assert nw.lenet(again, "d").identity == nw.lenet(repeated, "d").identity
    with pytest.raises(UserError, match="takes"):
        loaded.features(np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(UserError, match="classifier"):
        nw.pixels().logits(images[:2])


def test_other_files_are_no_lenet(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="no LeNet"):
        nw.load_lenet(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="no LeNet"):
        nw.load_lenet(path)
    with pytest.raises(UserError, match="labels"):
        nw.train_lenet(np.zeros((3, 8, 8)), [0, 1], generator=generator())


def test_resize_samples_where_tensorflow_does():
    x = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4)
    np.testing.assert_allclose(resize_like_tensorflow(x, 8)[0, 0, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
    np.testing.assert_allclose(resize_like_tensorflow(x, 4), x)
    np.testing.assert_allclose(resize_like_tensorflow(x, 2)[0, 0, 0], [0, 2])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = Inception()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_reads_tensors_only_and_checks_the_published_hash(weights, tmp_path):
    extractor = inception(weights, check=False)
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    features = extractor.features(x)
    assert features.shape == (2, 2048)
    assert extractor.logits(x).shape == (2, 1008)
    assert extractor.identity == hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    grey = extractor.features(x[:, :1])
    np.testing.assert_allclose(grey, extractor.features(np.repeat(x[:, :1], 3, axis=1)), rtol=1e-5)
    with pytest.raises(UserError, match="published"):
        inception(weights)
    with pytest.raises(UserError, match="download"):
        inception(tmp_path / "none.pth")

    class Evil:
        def __reduce__(self):
            return (os.getcwd, ())

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="no Inception weights"):
        inception(tmp_path / "evil.pth", check=False)


def test_inception_is_torch_fidelity_s_network(weights):
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="a peer of the bench environment")
    theirs = peer.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], str(weights))
    x = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8, generator=generator())
    features, logits = theirs(x)
    ours = inception(weights, check=False)
    np.testing.assert_allclose(ours.features(x), features, atol=1e-4)
    np.testing.assert_allclose(ours.logits(x), logits, atol=1e-4)
