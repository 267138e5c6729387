#!/usr/bin/env python3
"""Measure what image codecs cost on real camera frames: bytes, time to encode and to decode."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
import time

import cv2
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
import numpy as np
from stable_crl_ros.data.codecs import ImageCodec
from stable_crl_ros.images import ImageSpec, read_image

FRAMES = 40  # of a set, evenly spread
REPEATS = 5  # the fastest counts: the machine may have other things to do


@dataclass(frozen=True)
class Codec:
    """What is measured; `decode` is given the bytes and the image's size."""

    name: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, tuple[int, int]], np.ndarray] | None = None


def difference(values: np.ndarray) -> np.ndarray:
    """Return each number less the one before it, flat."""
    flat = values.reshape(-1)
    return np.concatenate([flat[:1], flat[1:] - flat[:-1]])


def planes(image: np.ndarray) -> np.ndarray:
    """Return the colours one after another, shape (3, H, W)."""
    return np.stack(cv2.split(image))


def with_columns(image: np.ndarray) -> bytes:
    """Encode as the default does, and take the difference to the row above as well."""
    colours = difference(image).reshape(image.shape)
    rows = difference(planes(colours)).reshape(3, *image.shape[:2])
    return Zstd(1).encode(difference(np.ascontiguousarray(rows.transpose(0, 2, 1))))


def png(image: np.ndarray) -> bytes:
    """Encode as a PNG, its fastest level."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def of_package(text: str) -> Codec:
    """Return one a dataset may have."""
    codec = ImageCodec.parse(text)
    return Codec(text, codec.encode, codec.decode)


CODECS = (
    of_package('lossless'), of_package('jpeg:95'), of_package('jpeg:90'),
    Codec('zstd 1', Zstd(1).encode),
    Codec('bitshuffle, zstd 1', Blosc('zstd', 1, Blosc.BITSHUFFLE).encode),
    Codec('planes, delta, zstd 1', lambda image: Zstd(1).encode(difference(planes(image)))),
    Codec('planes, delta, zstd 3', lambda image: Zstd(3).encode(difference(planes(image)))),
    Codec('lossless and columns', with_columns), Codec('PNG 1', png))


def video_frames(path: Path) -> list[np.ndarray]:
    """Return the frames of a video, RGB."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (found := capture.read())[0]:
        frames.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
    return frames


def photograph(path: Path) -> np.ndarray:
    """Return a picture as RGB; some have an alpha channel nobody needs."""
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def frame_sets(data: Path) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Give every set of real frames, its name saying where they come from."""
    rollout = data / 'simpler_bridge_real_video/bridge_real_1/source.mp4'
    yield '640x480, frames of an H.264 video', spread(video_frames(rollout))
    yield '640x480, one photograph (PNG)', [
        photograph(data / 'bridge_v2_drawer_eval_video/goal.png')]
    folders = ('bridge_v2_drawer_eval_video', 'bridge_trajectories_video')
    paths = sorted(path for name in folders for path in (data / name).glob('*/*.jpg'))
    frames = [read_image(path) for path in spread(paths)]
    yield '320x240, JPEG frames of H.264 videos', frames
    smaller = ImageSpec(128, 128)
    yield '128x128, the same reduced as they are for training', [
        smaller.resize(frame) for frame in frames]
    goals = sorted((data / 'auto_eval_drawer').glob('*.png'))
    yield '256x256, photographs (PNG)', [photograph(path) for path in goals]
    episodes = sorted((data / 'bridge_v1_octo').rglob('*.jpg'))
    yield '64x64, JPEG frames of BridgeData', [read_image(path) for path in spread(episodes)]


def spread(items: list) -> list:
    """Return a fixed number of items, evenly spread."""
    return items[::max(1, len(items) // FRAMES)][:FRAMES]


def fastest_ms(function: Callable, *arguments: object) -> float:
    """Return the least time of some calls, ms."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def measure(codec: Codec, frames: list[np.ndarray]) -> str:
    """Return a line of the table."""
    encoded = [codec.encode(frame) for frame in frames]
    kilobytes = np.mean([len(data) for data in encoded]) / 1e3
    share = sum(map(len, encoded)) / sum(frame.nbytes for frame in frames)
    encoding = np.mean([fastest_ms(codec.encode, frame) for frame in frames])
    line = f'  {codec.name:24} {kilobytes:8.1f} {share:7.1%} {encoding:8.2f}'
    if codec.decode is None:
        return line
    pairs = list(zip(encoded, frames, strict=True))
    decoding = np.mean([fastest_ms(codec.decode, data, frame.shape[:2]) for data, frame in pairs])
    errors = [np.square(codec.decode(data, frame.shape[:2]).astype(float) - frame).mean()
              for data, frame in pairs]
    error = np.mean(errors)
    quality = 'exact' if not error else f'{10 * np.log10(255 ** 2 / error):.1f} dB'
    return f'{line} {decoding:8.2f} {quality:>8}'


def main() -> int:
    """Measure every codec on every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, default=Path('../shared/data/widowx_real'))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print('Nothing is enlarged. Videos and JPEGs have lost noise already: what comes straight '
          'from a sensor takes more bytes.')
    for name, frames in frame_sets(options.data):
        print(f'\n{name}: {len(frames)} frames\n  {"codec":24} {"kB":>8} {"of raw":>7} '
              f'{"enc. ms":>8} {"dec. ms":>8} {"PSNR":>8}')
        for codec in CODECS:
            print(measure(codec, frames), flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
