"""Image codecs: what any Zarr or JPEG reader finds, and what damage does to one image only."""

import io
import json
import subprocess
import sys

from data_samples import action, assert_holds, observation, picture, record
from numcodecs.zstd import Zstd
import numpy as np
from PIL import Image
import pytest
from stable_crl_ros.data.codecs import CodecError, Encoded, ImageCodec
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.schema import Observation, SchemaError
from stable_crl_ros.data.zarr_files import shard_index, sharding, write_array
from stable_crl_ros.images import ImageError
import zarr

LOSSLESS = ImageCodec.parse('lossless')
JPEG = ImageCodec.parse('jpeg:95')


def smooth(height, width):
    """Give an image of gentle slopes, on which a JPEG is nearly exact."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 2 % 256, columns, (rows + columns) // 2], -1).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


@pytest.fixture
def jpegs(tmp_path):
    return Dataset(tmp_path / 'jpegs', create=True, image_codec='jpeg:95')


@pytest.mark.parametrize('image', [
    picture(0, 0, size=(480, 640)), picture(0, 1, size=(2, 2)), picture(0, 2, size=(5, 301)),
    np.zeros((64, 64, 3), np.uint8), np.full((3, 2, 3), 255, np.uint8), smooth(48, 64),
    picture(0, 3, size=(20, 20))[::2, ::-1]])
def test_lossless_gives_back_every_bit(image):
    np.testing.assert_array_equal(
        LOSSLESS.decode(LOSSLESS.encode(image), image.shape[:2]), image)


def test_lossless_shrinks_a_smooth_image_and_jpeg_is_close():
    image = smooth(120, 160)
    assert len(LOSSLESS.encode(image)) < image.size / 20
    decoded = JPEG.decode(JPEG.encode(image), (120, 160))
    assert np.abs(decoded.astype(int) - image).mean() < 3


@pytest.mark.parametrize('text', ['png', 'jpeg:0', 'jpeg:101', 'jpeg:', 'jpeg:x', 'lossless:3',
                                  '', None])
def test_refuses_an_unknown_codec_and_lists_the_known(text):
    with pytest.raises(CodecError, match="'lossless', or 'jpeg:QUALITY'"):
        ImageCodec.parse(text)


@pytest.mark.parametrize('codec', [LOSSLESS, JPEG])
def test_bytes_that_are_no_image_of_the_size_are_refused(codec):
    data = codec.encode(picture(0, 0))
    for wrong, size in ((b'', (12, 16)), (data[:20], (12, 16)), (data, (16, 16))):
        with pytest.raises(CodecError):
            codec.decode(wrong, size)


@pytest.mark.parametrize('size', [(1, 8), (8, 1)])
def test_lossless_refuses_a_line_of_pixels(size):
    with pytest.raises(ImageError, match='at least 2x2'):
        LOSSLESS.encode(picture(0, 0, size=size))


def test_a_shard_is_byte_by_byte_the_one_zarr_writes(tmp_path):
    rows = np.random.default_rng(0).integers(0, 9, (7, 12, 16, 3), np.uint8)
    array = zarr.create_group(tmp_path / 'theirs').create_array(
        'images', shape=rows.shape, dtype='uint8', chunks=(1, *rows.shape[1:]),
        shards=rows.shape, compressors=[zarr.codecs.ZstdCodec(level=1, checksum=True)],
        fill_value=0)
    array[:] = rows
    parts = [Zstd(1, checksum=True).encode(row) for row in rows]
    offsets = np.cumsum([0, *map(len, parts)])
    theirs = (tmp_path / 'theirs/images/c/0/0/0/0').read_bytes()
    assert theirs == b''.join(parts) + shard_index(offsets)
    described = json.loads((tmp_path / 'theirs/images/zarr.json').read_bytes())['codecs']
    inner = [{'name': 'bytes'}, {'name': 'zstd', 'configuration': {'level': 1, 'checksum': True}}]
    assert described == sharding((1, 12, 16, 3), inner)


@pytest.mark.parametrize('values', [
    np.arange(20, dtype=np.int64).reshape(5, 4), np.zeros((0, 7), np.float32),
    np.array([True, False]), np.float32([np.nan, np.inf]), np.zeros(3, np.uint16)])
def test_an_array_is_what_zarr_reads(tmp_path, values):
    write_array(tmp_path / 'a', values, 'numbers')
    array = zarr.open_array(tmp_path / 'a', mode='r')
    np.testing.assert_array_equal(array[...], values)
    assert (array.dtype, array.shape) == (values.dtype, values.shape)
    assert array.attrs['meaning'] == 'numbers'


READ_LOSSLESS = """
import sys, numpy, zarr
images = zarr.open_group(sys.argv[1], mode='r')['images/front']
assert 'stable_crl_ros' not in sys.modules
numpy.save(sys.argv[2], numpy.concatenate([images[...], images[3:4], images[-1][None]]))
"""
READ_JPEG = """
import io, sys, numpy, zarr
from PIL import Image
group = zarr.open_group(sys.argv[1], mode='r')
data, offsets = group['images/front'], group['image_offsets/front'][...]
assert data.attrs['image_codec'] == 'jpeg:95' and 'stable_crl_ros' not in sys.modules
numpy.save(sys.argv[2], [numpy.asarray(Image.open(io.BytesIO(data[start:end].tobytes())))
                         for start, end in zip(offsets[:-1], offsets[1:])])
"""


def read_plainly(code, path, out):
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code, path, out], check=True,
                   timeout=60, cwd='/')
    return np.load(out)


def test_plain_zarr_decodes_lossless_images_at_once_and_one_by_one(dataset, tmp_path):
    path = record(dataset, steps=6)
    found = read_plainly(READ_LOSSLESS, path, tmp_path / 'found.npy')
    seen = np.stack([picture(0, step) for step in range(7)])
    np.testing.assert_array_equal(found, [*seen, seen[3], seen[6]])


def test_plain_zarr_and_a_jpeg_reader_decode_jpegs(jpegs, tmp_path, monkeypatch):
    monkeypatch.setattr('stable_crl_ros.data.frames.JPEG_CHUNK_BYTES', 500)  # several chunks
    path = record(jpegs, steps=6)
    found = read_plainly(READ_JPEG, path, tmp_path / 'found.npy')
    assert found.shape == (7, 12, 16, 3)
    difference = found.astype(int) - jpegs[0].images()
    assert np.abs(difference).max() <= 3  # decoders round differently
    assert jpegs[0].damaged_images('front') == []


@pytest.mark.parametrize('codec', ['lossless', 'jpeg:90'])
def test_one_image_all_images_and_a_walk_over_them_agree(tmp_path, codec):
    dataset = Dataset(tmp_path / 'dataset', create=True, image_codec=codec)
    record(dataset, steps=4, cameras=('front', 'wrist'))
    episode = dataset[0]
    images = episode.images('wrist')
    walked = list(episode.frames('wrist'))
    for row in range(5):
        np.testing.assert_array_equal(episode.image('wrist', row), images[row])
        np.testing.assert_array_equal(walked[row], images[row])
        np.testing.assert_array_equal(episode.encoded('wrist', row).decode(), images[row])
    np.testing.assert_array_equal(episode.image('wrist', -1), images[4])
    np.testing.assert_array_equal(episode['images/wrist'], images)
    for row in (5, -6):
        with pytest.raises(EpisodeError, match='give 0 to 4'):
            episode.image('wrist', row)
    assert (episode.attrs['image_codec'], str(dataset.codec)) == (codec, codec)


def test_the_codec_is_chosen_once(jpegs):
    assert str(Dataset(jpegs.path).codec) == 'jpeg:95'
    assert Dataset(jpegs.path, create=True).id == jpegs.id
    with pytest.raises(DatasetError, match='stores its images as jpeg:95, not as lossless'):
        Dataset(jpegs.path, create=True, image_codec='lossless')


@pytest.mark.parametrize('codec', ['webp', 'jpeg'])
def test_refuses_a_dataset_with_a_codec_it_cannot_write(tmp_path, codec):
    with pytest.raises(DatasetError, match='jpeg:'):
        Dataset(tmp_path / 'new', create=True, image_codec=codec)
    assert not (tmp_path / 'new').exists()


def test_a_jpeg_file_is_stored_as_it_is(jpegs):
    buffer = io.BytesIO()
    Image.fromarray(smooth(12, 16)).save(buffer, 'JPEG', quality=55)
    given = Encoded(buffer.getvalue(), (12, 16, 3))
    with EpisodeWriter(jpegs) as writer:
        writer.add_step(Observation({'front': given}), action(0, 0))
        writer.finish(Observation({'front': smooth(12, 16)}))
    assert jpegs[0].encoded('front', 0).data == given.data
    np.testing.assert_array_equal(jpegs[0].image('front', 0), given.decode())


def test_refuses_an_encoded_image_that_is_none(dataset):
    with EpisodeWriter(dataset) as writer:
        for wrong, message in ((Encoded(b'', (12, 16, 3)), '0 bytes'),
                               (Encoded(b'x', (12, 16)), 'shape'),
                               (Encoded(b'no jpeg', (12, 16, 3)), 'not a jpeg image')):
            with pytest.raises(SchemaError, match=message):
                writer.add_step(Observation({'front': wrong}), action(0, 0))


@pytest.mark.parametrize('codec', ['lossless', 'jpeg:95'])
def test_a_flipped_byte_anywhere_names_its_image_and_leaves_the_others(tmp_path, codec):
    dataset = Dataset(tmp_path / 'dataset', create=True, image_codec=codec)
    path = record(dataset, steps=3, size=(8, 8))
    offsets = dataset[0]['image_offsets/front']
    file, = [found for found in (path / 'images/front/c').rglob('*') if found.is_file()]
    whole = file.read_bytes()
    images = dataset[0].images()
    for position in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        file.write_bytes(changed)
        hit = int(np.searchsorted(offsets, position, 'right')) - 1
        episode = dataset[0]
        assert [row for row, _ in episode.damaged_images('front')] == [hit if hit < 4 else None]
        np.testing.assert_array_equal(episode.image('front', 3 - hit % 4), images[3 - hit % 4])
    file.unlink()
    assert [row for row, _ in dataset[0].damaged_images('front')] == [0, 1, 2, 3, None]


def test_every_step_has_the_ages_of_its_streams(dataset):
    path = record(dataset, steps=3, cameras=('front', 'wrist'))
    assert_holds(dataset[0], 3, ('front', 'wrist'))
    group = zarr.open_group(path, mode='r')
    assert sorted(group['ages'].array_keys()) == ['ee_pose', 'front', 'joint_states', 'wrist']
    assert group['ages/joint_states'][...].tolist() == [-1, -1, -1]
    assert group['ages/ee_pose'][...].tolist() == [0, 1, 2]
    assert observation(0, 2).ages['ee_pose'] == 2
