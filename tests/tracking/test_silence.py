"""Offline means offline: the kernel sees no attempt to connect, and no file holds the key."""

import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest
import yaml

from tests.conftest import ROOT
from tests.tracking.test_online import KEY, TINY

pytestmark = pytest.mark.slow

PYTHON = f"{sys.executable} -m nos_repro run tiny.yaml --scale smoke --workers 1 --results results"
CLIENT = (
    "import wandb; run = wandb.init(mode='offline', project='p'); run.log({'a': 1}); run.finish()"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k != "WANDB_ERROR_REPORTING"}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def refused(command, folder, **more):
    """How many packets could not leave a network namespace without a way out: every connection and
    every name look-up that anything in ``command`` has tried."""
    script = f"{command} >said.txt 2>&1 || cat said.txt >&2; cat /proc/self/net/snmp"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "sh", "-c", script],
        cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    heads, values = [line.split() for line in done.stdout.splitlines() if line[:3] == "Ip:"]
    return int(values[heads.index("OutNoRoutes")]), done.stderr


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0,
    reason="this machine does not allow network namespaces",
)
def test_an_offline_run_tries_no_connection_and_looks_up_no_name(folder):
    assert refused(f"{PYTHON} --wandb offline", folder, WANDB_API_KEY=KEY) == (0, "")
    assert list(folder.glob("results/tiny/smoke/wandb/offline-run-*"))
    # the measurement sees what W&B's client does when allowed
    tried, _ = refused(f'{sys.executable} -c "{CLIENT}"', folder, WANDB_ERROR_REPORTING="true")
    assert tried > 0


def test_an_offline_run_contacts_no_proxy_or_server_and_no_file_holds_the_key(folder):
    (folder / "netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=_listen, args=(listener, heard), daemon=True).start()
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "http_proxy"), url)
        done = subprocess.run(
            [*PYTHON.split(), "--wandb", "offline"], cwd=folder, check=True, timeout=300,
            env=environment(WANDB_BASE_URL=url, WANDB_API_KEY=KEY, **proxies),
            capture_output=True, text=True,
        )  # fmt: skip
    assert heard == []
    assert "wandb sync results/tiny/smoke/wandb/offline-run-*" in done.stderr
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "netrc"]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr


def _listen(listener, heard):
    while True:
        try:
            heard.append(listener.accept()[1])
        except OSError:  # closed: the run is over
            return
