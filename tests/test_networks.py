"""Networks: sizes, norms and initialisation as published; shortcuts that change nothing."""

from learning_samples import small_config
import numpy as np
import pytest
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.networks import (
    Actor,
    all_logits,
    CentredLayerNorm,
    ContrastiveCritic,
    ConvEncoder,
    Head,
    make_encoder,
    paired_logits,
    to_pixels,
)
from stable_crl_ros.crl.presets import make_config
from stable_crl_ros.crl.resnet import ResNet34, stacked_conv
import torch
from torch import nn


@pytest.fixture(autouse=True)
def same_numbers():
    """Draw the same weights whatever ran before: of small networks some give 0 for everything."""
    torch.manual_seed(0)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def make_head(**changes):
    return Head(6, (5, 5, 5), 4, **{
        'activation': 'relu', 'norm': 'centred', 'skip_last_norm': True, 'dropout': 0.0,
        'gain': 2**0.5, 'final_init': 0.0, **changes})


@pytest.fixture(scope='module')
def sim_config():
    return make_config('sim')[1]


def test_sim_networks_have_the_published_number_of_parameters(sim_config):
    assert count(ContrastiveCritic(sim_config, action_dim=5)) == 22_223_073
    assert count(Actor(sim_config, action_dim=5)) == 5_622_949


def test_bridge_encoder_is_a_resnet_34_for_six_channels():
    # The classic ResNet-34 has 21,284,672 parameters without its classifier.
    extra_channels = 3 * 64 * 7 * 7
    assert count(ResNet34(3, nn.functional.silu)) == 21_284_672
    assert count(ResNet34(6, nn.functional.silu)) == 21_284_672 + extra_channels
    encoder = ResNet34(6, nn.functional.silu)
    shapes = []
    encoder.blocks[-1].register_forward_hook(lambda *call: shapes.append(call[2].shape))
    assert encoder(torch.zeros(2, 3, 128, 128), torch.zeros(2, 3, 128, 128)).shape == (2, 512)
    assert shapes == [(2, 512, 4, 4)]


def plain_resnet(network, x):
    """Compute ResNet-34 with 4 groups in every norm, swish after each, from its weights alone."""
    def norm(layer, x):
        return nn.functional.group_norm(x, 4, layer.weight, layer.bias, 1e-5)
    x = nn.functional.silu(norm(network.norm, nn.functional.conv2d(
        x, network.stem.weight, stride=2, padding=3)))
    x = nn.functional.max_pool2d(x, 3, 2, 1)
    for index, block in enumerate(network.blocks):
        stride = 2 if index in (3, 7, 13) else 1  # the second, third and fourth stage begin
        y = nn.functional.silu(norm(block.norm1, nn.functional.conv2d(
            x, block.conv1.weight, stride=stride, padding=1)))
        y = norm(block.norm2, nn.functional.conv2d(y, block.conv2.weight, padding=1))
        if index in (3, 7, 13):
            conv, shortcut_norm = block.shortcut
            x = norm(shortcut_norm, nn.functional.conv2d(x, conv.weight, stride=2))
        x = nn.functional.silu(x + y)
    return x.mean((2, 3))


def test_resnet_equals_plain_layers_in_their_published_order():
    network = ResNet34(6, nn.functional.silu).double()
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    observations, goals = torch.rand(2, 2, 3, 64, 64, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(network(observations, goals), plain_resnet(
            network, torch.cat([observations, goals], 1)))


def test_convolutions_of_the_resnet_start_kaiming_normal():
    network = ResNet34(3, nn.functional.silu)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 33 + 3
    for conv in convs:
        wanted = (2 / (conv.in_channels * conv.kernel_size[0] ** 2)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(wanted, rel=0.06)
        assert conv.weight.abs().max() > 3 * wanted  # not uniform


def test_cnn_maps_48_pixels_to_12_6_6(sim_config):
    encoder = ConvEncoder(3, 48, sim_config)
    maps = [tuple(norm.weight.shape) for norm in encoder.norms]
    assert maps == [(32, 12, 12), (64, 6, 6), (64, 6, 6)]
    assert encoder(torch.zeros(1, 3, 48, 48)).shape == (1, 2304)


def test_cnn_equals_plain_layers_in_their_published_order():
    encoder = ConvEncoder(6, 16, small_config())
    for norm in encoder.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    observations, goals = torch.rand(2, 4, 3, 16, 16)
    x = torch.cat([observations, goals], 1)
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        x = torch.relu(norm(conv(x)))
    torch.testing.assert_close(encoder(observations, goals), x.flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('encoder', 'size'), [('cnn', 16), ('cnn', 17), ('resnet34', 32)])
def test_gradients_of_the_smallest_images_are_computed_and_not_found_in_memory(encoder, size):
    network = make_encoder(3, small_config(encoder=encoder, image_size=size))
    images = torch.rand(4, 3, size, size).to(memory_format=torch.channels_last)
    found = []
    for _ in range(3):
        network.zero_grad()
        freed = [torch.full_like(weight, torch.nan) for weight in network.parameters()]
        del freed
        with torch.autocast('cpu', torch.bfloat16):
            features = network(images)
        features.float().square().sum().backward()
        found.append(torch.cat([weight.grad.flatten() for weight in network.parameters()]))
    assert torch.isfinite(found[0]).all()
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize('bias', [True, False])
def test_stacked_convolution_equals_the_convolution_of_the_stack(bias):
    conv = nn.Conv2d(6, 5, 8, 4, 2, bias=bias)
    observations, goals = torch.rand(2, 4, 3, 16, 16)
    torch.testing.assert_close(stacked_conv(conv, [observations, goals]),
                               conv(torch.cat([observations, goals], 1)), rtol=1e-4, atol=1e-5)


def test_centred_norm_has_a_learnt_centre_an_unbiased_deviation_and_no_scale():
    norm = CentredLayerNorm(5)
    norm.centre.data = torch.arange(5.0)
    assert [name for name, _ in norm.named_parameters()] == ['centre']
    x = np.random.default_rng(0).normal(3, 2, (4, 5)).astype(np.float32)
    for row, found in zip(x, norm(torch.tensor(x)).detach().numpy(), strict=True):
        mean = sum(row) / 5
        std = (sum((value - mean) ** 2 for value in row) / 4) ** 0.5
        for index in range(5):
            assert found[index] == pytest.approx((row[index] - mean) / (std + 1e-6) + index,
                                                 rel=1e-4, abs=1e-5)


def test_gradient_of_the_centred_norm_is_that_of_its_formula():
    norm = CentredLayerNorm(6).double()
    nn.init.normal_(norm.centre)
    x = torch.randn(4, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, centre: torch.func.functional_call(norm, {'centre': centre}, (x,)),
        (x, norm.centre))


def test_centred_norm_of_equal_numbers_has_a_finite_gradient():
    x = torch.ones(2, 5, requires_grad=True)
    CentredLayerNorm(5)(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def by_hand(head, x, normalised):
    for index, (layer, norm) in enumerate(zip(head.layers, head.norms, strict=True)):
        x = layer(x)
        x = torch.relu(norm(x) if index < normalised else x)
    return head.output(x)


@pytest.mark.parametrize('norm, skip_last, normalised', [
    ('centred', True, 2), ('centred', False, 3), ('affine', False, 3), ('none', False, 0)])
def test_head_normalises_before_the_activation_on_the_right_layers(norm, skip_last, normalised):
    head = make_head(norm=norm, skip_last_norm=skip_last)
    for parameter in head.norms.parameters():
        nn.init.normal_(parameter)
    x = torch.rand(3, 6)
    torch.testing.assert_close(head(x), by_hand(head, x, normalised))
    wrong = by_hand(head, x, 3 if normalised == 2 else 2)
    assert norm == 'none' or not torch.allclose(head(x), wrong)


def test_critic_skips_the_last_norm_and_the_actor_has_all(sim_config):
    critic, actor = ContrastiveCritic(sim_config, 7), Actor(sim_config, 7)
    assert [head.normalised for head in [*critic.phi, *critic.psi]] == [3, 3, 3, 3]
    assert all(isinstance(norm, CentredLayerNorm) for head in critic.psi for norm in head.norms)
    assert actor.head.normalised == 4
    assert all(isinstance(norm, nn.LayerNorm) for norm in actor.head.norms)
    last = critic.phi[0].norms[-1].centre
    out = critic.phi[0](torch.rand(2, 2311)).sum()
    assert torch.autograd.grad(out, last, allow_unused=True) == (None,)


def test_head_in_two_parts_equals_the_whole():
    head = make_head()
    image, action = torch.rand(3, 4), torch.rand(3, 2)
    torch.testing.assert_close(head.finish(head.project(image), action),
                               head(torch.cat([image, action], 1)))


def test_dropout_acts_with_a_generator_only():
    head = make_head(dropout=0.5, norm='none', skip_last_norm=False)
    x = torch.rand(64, 6)
    assert torch.equal(head(x), head(x))
    drawn = [head(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_dropout_keeps_the_expectation():
    head = Head(1, (20_000,), 1, activation='relu', norm='none', skip_last_norm=False,
                dropout=0.1, gain=1.0, final_init=0.0)
    for layer in (head.layers[0], head.output):
        nn.init.ones_(layer.weight)
    dropped = head(torch.ones(1, 1), torch.Generator().manual_seed(0))
    assert dropped.item() == pytest.approx(20_000, rel=0.01)
    assert dropped.item() != head(torch.ones(1, 1)).item()


@pytest.mark.parametrize('preset', ['sim', 'laptop'])
def test_cold_initialisation_makes_every_logit_and_action_almost_zero(preset):
    config = make_config(preset)[1]
    critic, actor = ContrastiveCritic(config, 7), Actor(config, 7)
    cold = [actor.head] + [*critic.phi, *critic.psi]
    for head in cold:
        assert 0 < head.output.weight.abs().max() <= 1e-12
        assert (head.output.bias == 0).all()
    images = torch.rand(3, 4, 3, 48, 48)
    with torch.no_grad():
        phi = critic.represent_actions(critic.project(critic.encoder(images[0])), torch.rand(4, 7))
        logits = all_logits(phi, critic.represent_goals(critic.encoder(images[1])))
        assert 0 < logits.abs().max() < 1e-18
        assert actor(images[0], images[1]).abs().max() < 1e-9


def test_hidden_layers_start_xavier_uniform_with_zero_bias(sim_config):
    head = ContrastiveCritic(sim_config, 7).psi[0]
    for layer in head.layers:
        bound = (2 * 6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


def test_convolutions_of_the_cnn_start_xavier_uniform_with_zero_bias(sim_config):
    for conv in ConvEncoder(3, 48, sim_config).convs:
        area = conv.kernel_size[0] ** 2
        bound = (2 * 6 / ((conv.in_channels + conv.out_channels) * area)) ** 0.5
        assert 0.99 * bound < conv.weight.abs().max() <= bound
        assert (conv.bias == 0).all()


def test_without_cold_initialisation_logits_differ_from_zero():
    config = small_config(critic_final_init=0.0)
    critic = ContrastiveCritic(config, 7)
    images = torch.rand(2, 4, 3, 16, 16)
    assert critic(images[0], torch.rand(4, 7), images[1]).abs().max() > 1e-3


def test_paired_logits_are_the_diagonal_of_all_logits():
    phi, psi = torch.rand(2, 2, 5, 3)
    everything = all_logits(phi, psi)
    for i in range(5):
        for e in range(2):
            for j in range(5):
                assert everything[i, j, e] == pytest.approx((phi[e, i] @ psi[e, j]).item())
            assert paired_logits(phi, psi)[i, e] == pytest.approx(everything[i, i, e].item())


def test_twins_share_the_encoder_and_differ():
    critic = ContrastiveCritic(small_config(critic_final_init=0.0), 7)
    images = torch.rand(2, 4, 3, 16, 16)
    logits = critic(images[0], torch.rand(4, 7), images[1])
    assert logits.shape == (4, 2)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    assert sum(isinstance(module, ConvEncoder) for module in critic.modules()) == 1


def test_normalised_representations_bound_the_logits_by_the_temperature():
    critic = ContrastiveCritic(
        small_config(critic_final_init=0.0, normalise_representations=True), 7)
    critic.log_temperature.data.fill_(np.log(3.0))
    images = torch.rand(2, 4, 3, 16, 16)
    logits = critic(images[0], torch.rand(4, 7), images[1])
    assert logits.abs().max() <= 3.0 + 1e-5
    (gradient,) = torch.autograd.grad(logits.sum(), critic.log_temperature)
    assert gradient == pytest.approx(logits.sum().item(), rel=1e-5)


@pytest.mark.parametrize('pixel_range, low, high', [('unit', 0.0, 1.0), ('symmetric', -1.0, 1.0)])
def test_pixels_keep_rows_columns_and_colours(pixel_range, low, high):
    images = np.zeros((1, 6, 4, 3), np.uint8)
    images[0, 5, 1, 2] = 255
    pixels = to_pixels(torch.from_numpy(images), pixel_range)
    assert pixels.shape == (1, 3, 6, 4)
    assert (pixels == high).nonzero().tolist() == [[0, 2, 5, 1]]
    assert (pixels == low).sum() == 6 * 4 * 3 - 1
    assert images[0, 5, 1, 2] == 255


def test_float_images_are_left_as_they_were():
    images = torch.full((1, 4, 4, 3), 255.0)
    to_pixels(images, 'unit')
    assert (images == 255.0).all()


def test_unknown_encoder_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="encoder is 'vit', must be one of cnn, resnet34"):
        small_config(encoder='vit')
