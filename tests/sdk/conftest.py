"""A real Keyhouse for the SDK tests: the built binary, set up by its own command line, on each engine."""

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from decimal import Decimal

import pytest
from provider import Provider

BINARY = os.environ["KEYHOUSE_BIN"]
POSTGRES = os.environ["KEYHOUSE_TEST_POSTGRES_URL"]
START_SECONDS_MAX = 30

# Credits per million tokens of the model that most tests call.
INPUT_PRICE = Decimal("3")
CACHED_PRICE = Decimal("1")
OUTPUT_PRICE = Decimal("12")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_it_answers(url, process):
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError as error:
            assert process.poll() is None, f"it ended with status {process.returncode}"
            assert time.monotonic() < deadline, f"{url} does not answer: {error}"
            time.sleep(0.05)


class House:
    """A running server and the command line beside it."""

    def __init__(self, folder, database_url):
        self.common = ["--data-dir", str(folder), "--database-url", database_url]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.url}/v1"
        self.cli("user", "create", "ada", "--password-stdin", stdin="copper lantern vivid stroll")
        self.cli("user", "grant", "ada", "100")
        self.cli("upstream", "create", "echo", "--dialect", "echo")
        for model in ("echo-small", "echo-large"):
            self.cli(
                "model", "create", model, "--upstream", "echo",
                "--input", str(INPUT_PRICE), "--output", str(OUTPUT_PRICE), "--max-output", "400",
            )
        self.server = subprocess.Popen([BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", *self.common])
        try:
            wait_until_it_answers(f"{self.url}/healthz", self.server)
        except BaseException:
            self.server.kill()
            raise

    def cli(self, *arguments, stdin=None):
        done = subprocess.run(
            [BINARY, *arguments, "--json", *self.common], input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"keyhouse {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout)

    def key(self, *options, user="ada"):
        """A new key: its id and its secret."""
        made = self.cli("key", "create", "--user", user, "--name", "sdk", *options)
        return made["id"], made["secret"]

    def used(self, key_id):
        """Credits used, once no call holds any: a stream is settled before its last byte, so at once."""
        key = self.cli("key", "show", key_id)
        assert key["credits_held"] == "0.000000", key
        return Decimal(key["credits_used"])

    def stop(self):
        self.server.terminate()
        assert self.server.wait(timeout=40) == 0


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def house(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        database_url = f"sqlite:{folder}/keyhouse.db"
    else:
        name = f"keyhouse_sdk_{secrets.token_hex(6)}"
        subprocess.run(["psql", POSTGRES, "-qc", f"CREATE DATABASE {name}"], check=True)
        database_url = POSTGRES.rsplit("/", 1)[0] + "/" + name
    house = House(folder, database_url)
    yield house
    house.stop()


@pytest.fixture(scope="session")
def media(house):
    """The provider behind the models `painter`, `speaker`, `listener`, `ranker` and `keeper`."""
    provider = Provider()
    house.cli("upstream", "create", "media", "--dialect", "openai", "--base-url", provider.base_url,
              "--secret-stdin", "--allow-private", stdin="sk-provider-secret")
    for model, *price in [
        ("painter", "--per-image", "0.04"),
        ("speaker", "--per-character", "15"),
        ("listener", "--per-audio-second", "0.0001"),
        ("ranker", "--per-request", "0.002"),
    ]:
        house.cli("model", "create", model, "--upstream", "media", "--input", "0", "--output", "0", *price)
    house.cli("model", "create", "keeper", "--upstream", "media=theirs", "--input", str(INPUT_PRICE),
              "--cached-input", str(CACHED_PRICE), "--output", str(OUTPUT_PRICE))
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def independent(tmp_path_factory):
    """An OpenAI-compatible server that this project did not write, and its secret."""
    port = free_port()
    log = (tmp_path_factory.mktemp("independent") / "log").open("w")
    llmock = os.path.join(os.path.dirname(os.sys.executable), "llmock")
    server = subprocess.Popen(
        [llmock, "serve", "--host", "127.0.0.1", "--port", str(port), "--response-style", "hello"],
        stdout=log, stderr=log,
    )
    base_url = f"http://127.0.0.1:{port}/v1"
    wait_until_it_answers(f"{base_url}/models", server)
    yield base_url, "sk-independent-secret"
    server.terminate()
    server.wait(timeout=10)
    log.close()
