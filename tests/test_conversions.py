"""Image messages and arrays: every encoding, padding, refusals, and cv_bridge where it is."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CompressedImage, Image
from stable_crl_ros.images import encode_image, ImageError
from stable_crl_ros.nodes.conversions import (
    ConversionError,
    cv_bridge_problem,
    image_reader,
    image_to_compressed,
    image_to_message,
    message_to_image,
    to_nanoseconds,
    to_stamp,
)

STAMP_NS = 1_700_000_000_123_456_789


def picture(height=6, width=5):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def raw(pixels, encoding, padding=0):
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                 step=rows.shape[1], data=rows.tobytes())


def test_an_image_and_its_stamp_survive_the_way_there_and_back():
    message = image_to_message(picture(), STAMP_NS, 'camera_optical_frame')
    np.testing.assert_array_equal(message_to_image(message), picture())
    assert to_nanoseconds(message.header.stamp) == STAMP_NS
    assert message.header.frame_id == 'camera_optical_frame'
    assert (message.encoding, message.step) == ('rgb8', 15)


def test_a_slice_that_is_not_contiguous_is_sent_right():
    wide = picture(6, 20)
    message = image_to_message(wide[:, ::2], STAMP_NS)
    np.testing.assert_array_equal(message_to_image(message), wide[:, ::2])


@pytest.mark.parametrize('stamp_ns', [0, 999_999_999, 1_000_000_000, STAMP_NS])
def test_stamps_are_exact_to_the_nanosecond(stamp_ns):
    assert to_nanoseconds(to_stamp(stamp_ns)) == stamp_ns


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', '8UC3', 'mono8'])
def test_every_supported_encoding_arrives_as_rgb(encoding, padding):
    expected = picture()
    if encoding == 'mono8':
        pixels = expected[..., 0]
        expected = np.repeat(pixels[..., None], 3, axis=2)
    else:
        pixels = expected if encoding == 'rgb8' else expected[..., ::-1]
    image = message_to_image(raw(pixels, encoding, padding))
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8


@pytest.mark.parametrize('kind', ['jpeg', 'png', 'rgb8; png compressed bgr8', 'JPEG'])
def test_compressed_images_arrive_as_rgb(kind):
    smooth = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    extension = '.png' if 'png' in kind else '.jpg'
    message = CompressedImage(format=kind, data=encode_image(smooth, extension))
    assert np.abs(message_to_image(message).astype(int) - smooth).max() <= 3


def test_our_own_compressed_message_can_be_read():
    smooth = np.full((16, 24, 3), (10, 200, 90), np.uint8)
    message = image_to_compressed(smooth, STAMP_NS, 'camera')
    assert np.abs(message_to_image(message).astype(int) - smooth).max() <= 3
    assert to_nanoseconds(message.header.stamp) == STAMP_NS


@pytest.mark.parametrize('encoding', ['yuv422', 'rgba8', 'mono16', '32FC1', 'bayer_rggb8', ''])
def test_refuses_another_encoding_and_lists_the_supported_ones(encoding):
    message = raw(picture(), 'rgb8')
    message.encoding = encoding
    with pytest.raises(ConversionError, match=r'image_raw.*rgb8, bgr8, 8UC3, mono8'):
        message_to_image(message, 'image_raw')


@pytest.mark.parametrize(('field', 'number', 'reason'), [
    ('step', 14, 'step 14 is too short'), ('height', 7, '90 bytes of data'),
    ('width', 0, 'empty'), ('height', 0, 'empty'), ('step', 16, 'need 96')])
def test_refuses_a_message_that_contradicts_itself(field, number, reason):
    message = raw(picture(), 'rgb8')
    setattr(message, field, number)
    with pytest.raises(ConversionError, match=reason):
        message_to_image(message)


def test_refuses_a_compressed_format_that_is_no_picture():
    message = CompressedImage(format='16UC1; compressedDepth', data=b'123')
    with pytest.raises(ConversionError, match='jpeg or png'):
        message_to_image(message)


@pytest.mark.parametrize('data', [b'', b'\xff\xd8\xff\xe0nonsense'])
def test_refuses_compressed_bytes_that_cannot_be_decoded(data):
    with pytest.raises(ImageError, match='image_raw/compressed'):
        message_to_image(CompressedImage(format='jpeg', data=data), 'image_raw/compressed')


def test_refuses_a_compressed_image_with_alpha():
    _, data = cv2.imencode('.png', np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ImageError, match='4 channels'):
        message_to_image(CompressedImage(format='png', data=data.tobytes()))


def test_refuses_to_send_what_is_no_rgb_image():
    with pytest.raises(ImageError, match='float64'):
        image_to_message(np.zeros((4, 4, 3)), STAMP_NS)


def test_refuses_an_unknown_backend_by_listing_the_known_ones():
    with pytest.raises(ConversionError, match='numpy, cv_bridge, auto'):
        image_reader('opencv')


def test_automatic_backend_reads_images_whether_or_not_cv_bridge_works():
    np.testing.assert_array_equal(
        image_reader('auto')(raw(picture()[..., ::-1], 'bgr8')), picture())


def test_cv_bridge_is_refused_with_the_reason_where_it_does_not_work():
    if not cv_bridge_problem():
        pytest.skip('cv_bridge works here')
    with pytest.raises(ConversionError, match='image_backend to numpy'):
        image_reader('cv_bridge')


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', '8UC3', 'mono8'])
def test_cv_bridge_and_numpy_agree(encoding):
    if cv_bridge_problem():
        pytest.skip(f'no usable cv_bridge: {cv_bridge_problem()}')
    message = raw(picture()[..., 0] if encoding == 'mono8' else picture(), encoding, padding=3)
    np.testing.assert_array_equal(image_reader('cv_bridge')(message), message_to_image(message))
