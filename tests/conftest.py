"""What tests of several rooms share: pictures of the built-in dataset laid out as ImageNet is."""

import errno
import fcntl
import json
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from impure import cli
from impure.manifests.base import file_lock
from impure.manifests.base.files import read_json
from impure.pipeline.builtin.drawing import CLASSES, render
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_names import BUILTIN_CARD
from tests.common import PLAIN

#: ImageNet classes that the built-in classes stand for in tests.
WNIDS = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip


torch.set_num_threads(1)  # networks this small are fastest so, and tests may share the machine


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Each test draws the same: a kink that finite differences step over is there always, or never."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def builtin_target() -> Target:
    return load_target("builtin")


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train|val/<wnid>/*`: 12 and 16 pictures of each of three classes, 64 px PNG."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 12), ("val", 16)):
        for wnid, name in list(zip(WNIDS, CLASSES, strict=True))[:3]:
            folder = root / split / wnid
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(render(split, name, index, 64)).save(folder / f"{wnid}_{index}.png")
    return root


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in target as a card file whose classes are ImageNet's."""
    path = tmp_path_factory.mktemp("target") / "card.json"
    shipped = read_json(BUILTIN_CARD)
    weights = str(BUILTIN_CARD.parent / shipped["weights"])
    path.write_text(json.dumps(shipped | {"name": "small", "wnids": WNIDS, "weights": weights}))
    return path


def run(command: str, *arguments: object) -> Result:
    """Run a console command in this process; `command` is data, train, evaluate or purify."""
    return CliRunner().invoke(getattr(cli, command), [str(argument) for argument in arguments])


@pytest.fixture(scope="session", name="run")
def run_fixture() -> Callable[..., Result]:
    return run


@pytest.fixture(scope="session")
def collection_root(imagenet: Path, card: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished collection: clean, FGSM and PGD on three classes; do not change it."""
    root = tmp_path_factory.mktemp("collection") / "root"
    result = run(
        "data", "generate", "--images", imagenet, "--target", card, "--attack", "clean,fgsm,pgd",
        "--per-class", 3, "--shard-size", 5, "--batch-size", 4, "--threads", 1, "--out", root,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture(scope="session")
def train(run: Callable[..., Result], collection_root: Path) -> Callable[..., Result]:
    """Train the tiny network on the small collection."""

    def start(out: Path, *more: object) -> Result:
        return run("train", "--shards", collection_root, *PLAIN, "--out", out, *more)

    return start


@pytest.fixture
def bare_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every disk is one without file locks that refuses to synchronise folders."""
    sync = os.fsync
    answer = getattr(request, "param", errno.ENOSYS)

    def flock(file: object, operation: int) -> None:
        raise OSError(answer, os.strerror(answer))

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(file_lock, "_noted", set())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 bucket on this machine, found through the environment as a user would point to one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import boto3
        import s3fs
        from moto.server import ThreadedMotoServer

        s3fs.S3FileSystem.clear_instance_cache()  # or it would ask the server of another test
        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="lab")
        yield "s3://lab/pairs"
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        server.stop()
