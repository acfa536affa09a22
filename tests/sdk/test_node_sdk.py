"""The official OpenAI SDK for Node: its tests are in node/, this starts them beside a running Keyhouse."""

import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).parent
MODULES = HERE.parents[1] / "target" / "node" / "package.json"


def test_openai_for_node(house, media):
    key_id, secret = house.key()
    _, spent = house.key("--credit-limit", "0.000001")
    told = {
        "KEYHOUSE_URL": house.base_url, "KEYHOUSE_KEY": secret, "KEYHOUSE_SPENT_KEY": spent,
        "KEYHOUSE_NODE_MODULES": str(MODULES),
    }
    run = subprocess.run(
        ["node", "--test", str(HERE / "node" / "openai.test.mjs")],
        env=os.environ | told, capture_output=True, text=True, timeout=120, check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert house.used(key_id) > 0
