"""ImageSpec and the image files: channel order, sizes, refusals."""

from array import array
import struct
import zlib

import cv2
import numpy as np
from PIL import ExifTags, Image
import pytest
from stable_crl_ros.images import (
    check_rgb,
    decode_image,
    encode_image,
    ImageError,
    ImageSpec,
    read_image,
    write_image,
)


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    """Return an image whose channels and corners all differ."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 3, (rows + columns) % 256], -1).astype(np.uint8)


def test_a_png_comes_back_with_the_same_pixels_in_the_same_channel_order(tmp_path):
    image = picture()
    write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), image)
    # OpenCV reads blue first: the file itself must hold red where we wrote red.
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'a.png'))[..., 2], image[..., 0])


def test_area_resize_averages_whole_blocks():
    image = picture(96, 96)
    small = ImageSpec(48, 48).resize(image)
    blocks = image.reshape(48, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(small - blocks).max() <= 0.5


def test_lanczos_leaves_nothing_of_what_is_finer_than_a_pixel():
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    small = ImageSpec(128, 128, 'lanczos3').resize(stripes)[:, 3:-3]  # borders see half of it
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_lanczos_is_as_bridge_data_were_shrunk():
    image = picture(480, 640)
    small = ImageSpec(128, 128, 'lanczos3').resize(image)
    # Lanczos of three lobes, each as wide as a pixel of the result, along one axis and the other.
    for axis, size in ((1, 128), (0, 128)):
        scale = image.shape[axis] / size
        centres = (np.arange(size)[:, None] + 0.5) * scale - 0.5
        x = (np.arange(image.shape[axis])[None] - centres) / scale
        weights = np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3)
        image = np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), image,
                                         (1, axis)), 0, axis).clip(0, 255)
    assert np.abs(small - image).max() <= 1.5


def test_resize_of_a_fitting_image_changes_nothing():
    image = picture(48, 48)
    np.testing.assert_array_equal(ImageSpec(48, 48).resize(image), image)


def test_resize_squashes_rather_than_crops():
    image = np.zeros((240, 320, 3), np.uint8)
    image[:, :160] = 255
    small = ImageSpec(48, 48).resize(image)
    assert (small[:, :24] == 255).all()
    assert (small[:, 24:] == 0).all()


def test_grey_files_become_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), np.full((10, 12), 77, np.uint8))
    assert read_image(tmp_path / 'grey.png').tolist() == np.full((10, 12, 3), 77).tolist()


@pytest.mark.parametrize(('image', 'reason'), [
    (np.zeros((8, 8, 3), np.float32), 'float32'),
    (np.zeros((8, 8), np.uint8), 'shape'),
    (np.zeros((8, 8, 4), np.uint8), 'shape'),
    (np.zeros((0, 8, 3), np.uint8), 'shape'),
    ([[1, 2, 3]], 'list'),
])
def test_what_is_no_rgb_image_is_refused(image, reason):
    with pytest.raises(ImageError, match=reason):
        check_rgb(image)


def test_alpha_and_16_bit_files_are_refused_with_the_remedy(tmp_path):
    cv2.imwrite(str(tmp_path / 'alpha.png'), np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(ImageError, match='without alpha'):
        read_image(tmp_path / 'alpha.png')
    cv2.imwrite(str(tmp_path / 'deep.png'), np.zeros((8, 8, 3), np.uint16))
    with pytest.raises(ImageError, match='8 bits'):
        read_image(tmp_path / 'deep.png')


def test_an_alpha_channel_that_hides_nothing_is_left_out():
    opaque = np.dstack([picture()[:, :, ::-1], np.full(picture().shape[:2], 255, np.uint8)])
    data = cv2.imencode('.png', opaque)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data), picture())


def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_decoded():
    jpeg = bytearray(encode_image(picture(), '.jpg'))
    place = jpeg.index(b'\xff\xc0')
    jpeg[place + 5:place + 9] = struct.pack('>HH', 20_000, 30_000)
    for data, size in ((gigantic(20_000), '20000 x 20000'), (bytes(jpeg), '30000 x 20000')):
        with pytest.raises(ImageError, match=f'goal.png: {size} pixels'):
            decode_image(data, 'goal.png')


def gigantic(side=100_000):
    """Return a PNG that claims more pixels than anybody wants to read."""
    data = bytearray(encode_image(picture()))
    data[16:24] = struct.pack('>II', side, side)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize('data', [b'', b'not an image', encode_image(picture())[:40], gigantic()])
def test_unreadable_bytes_are_refused_by_name(data):
    with pytest.raises(ImageError, match=r'goal\.png'):
        decode_image(data, 'goal.png')


@pytest.mark.parametrize(('orientation', 'stored'), [
    (1, lambda image: image), (3, lambda image: np.rot90(image, 2)), (6, np.rot90)])
def test_only_a_file_is_turned_as_its_exif_data_say(tmp_path, orientation, stored):
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    image = blocks.repeat(32, 0).repeat(32, 1)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / 'photo.jpg'
    Image.fromarray(stored(image)).save(path, quality=100, subsampling=0, exif=exif)
    np.testing.assert_allclose(read_image(path).astype(int), image, atol=4)
    # A camera's message and a stored frame are of the size and way they were recorded in.
    np.testing.assert_allclose(decode_image(path.read_bytes()).astype(int), stored(image), atol=4)


def test_a_missing_file_is_refused_by_path(tmp_path):
    with pytest.raises(ImageError, match='nowhere'):
        read_image(tmp_path / 'nowhere.png')


@pytest.mark.parametrize('values', [
    {'height': 48, 'width': 48},
    {'height': 48, 'width': 48, 'interpolation': 'cubic'},
    {'height': 48.0, 'width': 48, 'interpolation': 'area'},
    {'height': 0, 'width': 48, 'interpolation': 'area'},
    {'height': 48, 'width': 48, 'interpolation': 'area', 'crop': True},
])
def test_a_wrong_spec_is_refused(values):
    with pytest.raises(ImageError):
        ImageSpec.from_dict(values)


def test_a_spec_survives_its_dictionary():
    spec = ImageSpec(128, 96, 'lanczos3')
    assert ImageSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize('kind', [bytes, lambda data: array('B', data),
                                  lambda data: np.frombuffer(data, np.uint8)])
def test_the_bytes_of_a_message_are_decoded_and_checked_as_those_of_a_file(kind):
    image = np.full((5, 7, 3), 90, np.uint8)
    data = encode_image(image, '.png')
    np.testing.assert_array_equal(decode_image(kind(data)), image)
    claims = data[:16] + (20_000).to_bytes(4, 'big') * 2 + data[24:]
    with pytest.raises(ImageError, match='20000 x 20000'):
        decode_image(kind(claims))
