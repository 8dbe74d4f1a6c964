"""Collections shared by console commands: card, pull, push, query, merge, reading from a URL."""

import csv
import io
import json
import shutil
import socket
from contextlib import contextmanager
from threading import Thread

import pytest

from impure.manifests.collection.collection import Collection
from impure.manifests.sharing import remote_errors
from tests.common import hashes, one_line, stamps
from tests.manifests.conftest import Web

KIT = {"README.md", "croissant.json", "preview.png", "SHA256SUMS"}
INDICES = {"train-index.json", "validation-index.json", "test-index.json"}


@pytest.fixture(autouse=True)
def no_delays(monkeypatch):
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", (0.0, 0.0))


@pytest.fixture(scope="module")
def described(collection_root, run, tmp_path_factory):
    """The finished collection with its card; not to be changed."""
    root = shutil.copytree(collection_root, tmp_path_factory.mktemp("described") / "root",
        ignore=shutil.ignore_patterns("_tmp", *KIT))  # fmt: skip
    written = run("data", "card", root, "--json")
    assert written.exit_code == 0, written.output
    files = {path.rpartition("/")[2] for path in json.loads(written.stdout)["files"]}
    assert files == KIT | INDICES
    return root


@contextmanager
def serving(root):
    server = Web(root)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def web(described):
    with serving(described) as server:
        yield server


def contents(root):
    private = {"_tmp", "_logs"}
    paths = [path for path in root.rglob("*") if path.is_file() and not private & set(path.parts)]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def train(run, shards, out, *more):
    trained = run("train", "--shards", shards, "--model", "tiny", "--epochs", 1, "--batch-size", 9,
        "--device", "cpu", "--threads", 1, "--out", out, *more)  # fmt: skip
    assert trained.exit_code == 0, trained.output
    return (out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def weights(described, run, tmp_path_factory):
    """What training from the folder gives."""
    return train(run, described, tmp_path_factory.mktemp("folder") / "run")


# --- card, status, ls, query ---


def test_a_second_card_is_the_same(described, run, tmp_path):
    root = shutil.copytree(described, tmp_path / "root")
    written = run("data", "card", root)
    assert written.exit_code == 0, written.output
    assert f"{root / 'README.md'}" in written.stdout.splitlines()
    assert contents(root) == contents(described)


def test_a_damaged_collection_gets_no_card(described, run, tmp_path):
    root = shutil.copytree(described, tmp_path / "root")
    path = Collection(root).committed[0].tar
    path.write_bytes(path.read_bytes()[:-1])
    one_line(run("data", "card", root), "000000.tar: not what its marker says; see `impure-data verify")
    one_line(run("data", "card", tmp_path), "no committed shard")


def test_status_and_ls_tell_what_is_there_and_what_is_missing(described, run, tmp_path):
    root = shutil.copytree(described, tmp_path / "root")
    first, *others = Collection(root).committed
    first.stem.with_suffix(".done.json").unlink()
    status = json.loads(run("data", "status", root, "--json").stdout)
    assert status["missing"] == [str(first.shard_id)]
    assert sum(group["shards"] for group in status["groups"]) == len(others)
    assert sum(group["bytes"] for group in status["groups"]) == sum(
        shard.tar.stat().st_size for shard in others
    )  # fmt: skip
    assert "1 planned shards are not there yet" in run("data", "status", root).stdout
    listed = json.loads(run("data", "ls", root, "--json").stdout)
    assert [marker["shard_id"] for marker in listed] == [str(shard.shard_id) for shard in others]
    assert run("data", "ls", root).stdout.count(" pairs  ") == len(others)


def test_status_shows_plans_that_no_attack_was_made_on(described, run, tmp_path):
    root = shutil.copytree(described, tmp_path / "root")
    shutil.rmtree(root / "small")
    lines = run("data", "status", root).stdout.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("small/train: 9 images are sampled for 2 shards, and no attack is made yet")
    assert json.loads(run("data", "status", root, "--json").stdout)["plans"][1] == {
        "target": "small", "split": "train", "images": 9, "shards": 2,
    }  # fmt: skip


RATES = "SELECT variant, count(*) AS n, avg(success::INT) AS rate FROM samples GROUP BY variant ORDER BY 1"


def test_results_of_queries_are_text_json_and_csv(described, run):
    queried = run("data", "query", described, RATES, "--json")
    assert queried.exit_code == 0, queried.output
    rows = json.loads(queried.stdout)
    assert [(row["variant"], row["n"]) for row in rows] == [("clean", 27), ("fgsm", 27), ("pgd", 27)]
    assert rows[0]["rate"] == 0 < rows[2]["rate"]
    table = list(csv.DictReader(io.StringIO(run("data", "query", described, RATES, "--csv").stdout)))
    assert [(row["variant"], int(row["n"]), float(row["rate"])) for row in table] == [
        (row["variant"], row["n"], row["rate"]) for row in rows
    ]
    assert "pgd" in run("data", "query", described, RATES).stdout


def test_queries_that_make_no_sense_are_one_clear_line(described, run, tmp_path):
    one_line(run("data", "query", described, "SELECT nothing FROM samples"), "nothing")
    one_line(run("data", "query", described, "SELEC 1"), "SELEC")
    one_line(run("data", "query", described, "SELECT 1", "--json", "--csv"), "choose one")
    one_line(run("data", "query", described, f"COPY samples TO '{tmp_path}/x.csv'"), "only questions|SELECT")


# --- pull, push, merge ---


def test_a_whole_collection_is_pulled(web, described, run, tmp_path):
    pulled = run("data", "pull", web.url, tmp_path / "here", "--json")
    assert pulled.exit_code == 0, pulled.output
    document = json.loads(pulled.stdout)
    assert (document["shards"], document["present"], document["card_copied"]) == (18, 0, True)
    assert contents(tmp_path / "here") == contents(described)
    again = run("data", "pull", web.url, tmp_path / "here")
    assert "18 shards, 18 there already, 0.0 MiB" in again.stdout
    assert run("data", "verify", tmp_path / "here").exit_code == 0


def test_a_part_is_pulled_and_described_and_completed(web, described, run, tmp_path):
    root = tmp_path / "here"
    pulled = run("data", "pull", web.url, root, "--attack", "pgd,clean", "--split", "test")
    assert pulled.exit_code == 0, pulled.output
    assert "4 shards" in pulled.stdout
    assert "impure-data card" in pulled.stderr
    assert {(shard_id.attack, shard_id.split) for shard_id in Collection(root).marked()} == {
        ("pgd", "test"), ("clean", "test"),
    }  # fmt: skip
    assert run("data", "verify", root).exit_code == 0
    assert run("data", "card", root).exit_code == 0
    rest = run("data", "pull", web.url, root)
    assert rest.exit_code == 0, rest.output
    assert contents(root) == contents(described)


def test_a_pull_names_its_folder_after_the_address(described, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pulled = run("data", "pull", f"file://{described}")
    assert pulled.exit_code == 0, pulled.output
    assert contents(tmp_path / "impure-data" / "root") == contents(described)


def test_shards_are_merged_from_two_machines(described, run, tmp_path):
    for name, attack in (("a", "clean,fgsm"), ("b", "pgd")):
        pulled = run("data", "pull", f"file://{described}", tmp_path / name, "--attack", attack)
        assert pulled.exit_code == 0, pulled.output
    merged = run("data", "merge", tmp_path / "a", tmp_path / "b", "--json")
    assert merged.exit_code == 0, merged.output
    assert len(json.loads(merged.stdout)["copied"]) == 6
    assert hashes(tmp_path / "a") == hashes(described)
    again = run("data", "merge", tmp_path / "a", tmp_path / "b")
    assert "0 copied, 6 there already" in again.stdout
    assert run("data", "verify", tmp_path / "a").exit_code == 0
    path = Collection(tmp_path / "b").committed[0].tar
    path.write_bytes(path.read_bytes()[:-512])
    bad = run("data", "merge", tmp_path / "c", tmp_path / "b")
    assert bad.exit_code == 3, bad.output
    assert "5 copied" in bad.stdout
    assert "small/pgd/test/000000: 000000.tar has" in bad.stdout


def test_another_collection_is_not_merged(described, imagenet, card, run, tmp_path):
    made = run("data", "generate", "--images", imagenet, "--target", card, "--attack", "fgsm", "--split",
        "train", "--per-class", 2, "--threads", 1, "--out", tmp_path / "other")  # fmt: skip
    assert made.exit_code == 0, made.output
    before = stamps(tmp_path / "other")
    one_line(run("data", "merge", tmp_path / "other", described), "per_class .*nothing was merged")
    assert stamps(tmp_path / "other") == before


# --- straight from the web ---


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
def test_training_and_evaluating_straight_from_a_web_server(
    web, described, weights, card, run, tmp_path, monkeypatch
):
    monkeypatch.setenv("IMPURE_CACHE", str(tmp_path / "cache"))
    assert train(run, web.url, tmp_path / "run", "--workers", 2) == weights
    read = {path for path, _, _ in web.sent if path.endswith(".tar")}
    assert read == {
        f"{shard.shard_id}.tar"
        for shard in Collection(described).committed
        if shard.shard_id.split == "train"
    }
    reports = []
    for shards in (web.url, described):
        evaluated = run("evaluate", "--shards", shards, "--checkpoint", tmp_path / "run", "--target", card,
            "--attacks", "pgd", "--defence", "none,jpeg,riae", "--device", "cpu", "--threads", 1,
            "--out", tmp_path / "report", "--json")  # fmt: skip
        assert evaluated.exit_code == 0, evaluated.output
        reports.append(json.loads(evaluated.stdout))
        del reports[-1]["conditions"]["date"]
    assert reports[0] == reports[1]
    web.sent.clear()
    assert train(run, f"{web.url}/small/*/train/*.tar", tmp_path / "again") == weights
    assert web.bytes_of(".tar") == 0


def test_addresses_that_lead_nowhere_are_one_clear_line(web, run, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPURE_CACHE", str(tmp_path / "cache"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        silent = f"http://127.0.0.1:{free.getsockname()[1]}"
    wrong = {
        f"{web.url}/elsewhere": "elsewhere/SHA256SUMS: not found.*impure-data card",
        silent: f"{silent}/SHA256SUMS: .*Connect",
        "foo://x/y": "foo://x/y: not an address",
        "gs://bucket/x": r"impure\[gs\]",
    }
    for url, said in wrong.items():
        one_line(run("train", "--shards", url, "--model", "tiny", "--out", tmp_path / "run"), said)
        one_line(run("evaluate", "--shards", url, "--defence", "none", "--out", tmp_path / "report"), said)
        one_line(run("data", "pull", url, tmp_path / "here"), said)
        assert not (tmp_path / "here").exists()
    one_line(
        run("train", "--shards", web.url, "--attacks", "cw", "--out", tmp_path / "run"), "has clean, fgsm"
    )
    one_line(run("data", "pull", web.url, tmp_path / "here", "--attack", "cw"), "has clean, fgsm, pgd")
    one_line(run("data", "push", web.root, web.url), "takes no files")


def test_a_page_that_is_no_list_of_sums_is_refused(described, run, tmp_path):
    shutil.copytree(described, tmp_path / "root")
    (tmp_path / "root" / "SHA256SUMS").write_text("<html>Sign in</html>\n")
    with serving(tmp_path / "root") as server:
        one_line(run("data", "pull", server.url, tmp_path / "here"), "SHA256SUMS: not a list of SHA-256 sums")


# --- S3 ---


@pytest.mark.filterwarnings("ignore")  # botocore's and moto's own
def test_a_round_trip_through_s3_and_training_from_it(described, weights, bucket, run, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPURE_CACHE", str(tmp_path / "cache"))
    for present in (0, 18):
        pushed = run("data", "push", described, bucket, "--json")
        assert pushed.exit_code == 0, pushed.output
        assert json.loads(pushed.stdout)["present"] == present
    pulled = run("data", "pull", bucket, tmp_path / "here")
    assert pulled.exit_code == 0, pulled.output
    assert contents(tmp_path / "here") == contents(described)
    assert train(run, bucket, tmp_path / "run", "--workers", 2) == weights
    one_line(run("data", "pull", "s3://absent/x", tmp_path / "x"), "s3://absent/x")
    one_line(
        run("train", "--shards", "s3://lab/nothing", "--out", tmp_path / "x"), "no committed shard there"
    )
    path = Collection(tmp_path / "here").committed[0].tar
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    one_line(run("data", "push", tmp_path / "here", "s3://lab/more"), "impure-data verify")


def test_an_old_card_is_not_pushed(described, run, tmp_path):
    root = shutil.copytree(described, tmp_path / "root")
    shutil.rmtree(root / "small/fgsm")
    one_line(run("data", "push", root, tmp_path / "there"), "an old card; run `impure-data card")
    assert run("data", "card", root).exit_code == 0
    pushed = run("data", "push", root, tmp_path / "there")
    assert pushed.exit_code == 0, pushed.output
    assert contents(tmp_path / "there") == contents(root)
