"""`ray up cluster/onprem.yaml` for real: two nodes on this machine, each with an SSH server and its own processes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HEAD, WORKER = "127.0.0.2", "127.0.0.3"
PROGRAMS = Path(sys.executable).parent
SSHD = "/usr/sbin/sshd"
APART = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child")
"""In a process namespace of its own a node sees, and `ray stop` ends, no process but the node's."""

SEEN = """
    import time, ray
    ray.init(address="auto", log_to_driver=False)
    deadline = time.monotonic() + 90
    while len([node for node in ray.nodes() if node["Alive"]]) < 2 and time.monotonic() < deadline:
        time.sleep(1)
    where = ray.remote(scheduling_strategy="SPREAD")(lambda: (time.sleep(2), ray.util.get_node_ip_address())[1])
    print("ran on", *sorted(ray.get([where.remote(), where.remote()])))
"""


def possible() -> bool:
    tools = all(shutil.which(tool) for tool in ("unshare", "ssh", "ssh-keygen", "rsync")) and Path(SSHD).exists()
    return bool(tools) and subprocess.run([*APART, "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode == 0


@dataclass
class Cluster:
    """What `ray up` is given, and where the nodes' homes are."""

    folder: Path
    file: Path
    environment: dict[str, str] = field(default_factory=dict)

    def ray(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(PROGRAMS / "ray"), *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def home(self, address: str) -> Path:
        return self.folder / address


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if not possible():
        pytest.skip("needs openssh-server, rsync and the right to make namespaces")
    you = tmp_path / "you"
    (you / ".ray").mkdir(parents=True)
    token = you / ".ray" / "auth_token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o644)  # as Ray leaves it
    make_key(tmp_path / "key")
    nodes = [start_node(tmp_path, address) for address in (HEAD, WORKER)]
    values = on_this_machine(yaml.safe_load((ROOT / "cluster" / "onprem.yaml").read_text()), tmp_path / "key")
    file = tmp_path / "onprem.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    yield Cluster(
        tmp_path, file, {"HOME": str(you), "RAY_TMPDIR": str(tmp_path / "you"), "RAY_UP_enable_autoscaler_v2": "0"}
    )
    for node in nodes:
        node.kill()
        node.wait()


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def start_node(folder: Path, address: str) -> subprocess.Popen[bytes]:
    """A server that takes the key, on port 22 of an address of loopback."""
    home, files = folder / address, folder / f"{address}.files"
    (home / "venv" / "bin").mkdir(parents=True)
    (files / "ray").mkdir(parents=True)
    (home / ".bashrc").touch()
    (home / "venv" / "bin" / "activate").write_text(
        f"export PATH={PROGRAMS}:$PATH PYTHONPATH={home}/safs_ray ADDRESS={address}\n"
    )
    make_key(files / "host")
    (files / "passwd").write_text(f"root:x:0:0::{home}:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    (files / "sshd_config").write_text(
        f"ListenAddress {address}\nHostKey {files}/host\nAuthorizedKeysFile {folder}/key.pub\n"
        "PermitRootLogin yes\nPasswordAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\n"
    )
    shared, own = Path("/tmp/ray"), Path("/run/sshd")
    for needed in (shared, own):
        needed.mkdir(exist_ok=True)
    script = (
        f"mount --bind {files}/passwd /etc/passwd && mount --bind {files}/ray {shared} && "
        f"exec {SSHD} -D -f {files}/sshd_config"
    )
    return subprocess.Popen([*APART, "sh", "-c", script])


def on_this_machine(values: dict[str, Any], key: Path) -> dict[str, Any]:
    """onprem.yaml with the nodes' addresses, and what is installed here in place of what it would install."""
    values["cluster_name"] = "loopback"
    values["provider"] |= {"head_ip": HEAD, "worker_ips": [WORKER]}
    values["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    values["setup_commands"] = [command for command in values["setup_commands"] if ".local/bin/uv" not in command]
    for place in ("head", "worker"):
        values[f"{place}_start_ray_commands"] = [
            command.replace("ray start", "ray start --node-ip-address=$ADDRESS --num-cpus=1")
            for command in values[f"{place}_start_ray_commands"]
        ]
    return values


@pytest.mark.slow
def test_ray_up_makes_a_cluster_of_both_nodes_that_a_sweep_runs_on(cluster: Cluster) -> None:
    cluster.ray("up", "--yes", "--no-config-cache", str(cluster.file))
    (cluster.folder / "see.py").write_text(textwrap.dedent(SEEN))
    assert f"ran on {HEAD} {WORKER}" in cluster.ray("exec", str(cluster.file), f"python {cluster.folder}/see.py")

    for address in (HEAD, WORKER):
        token = cluster.home(address) / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert (cluster.home(address) / "safs_ray" / "safs_ray" / "storage.py").exists()
        assert not (cluster.home(address) / "safs_ray" / ".git").exists()
    refused = f"RAY_AUTH_TOKEN=wrong python -c 'import ray; ray.init(address=\"{HEAD}:6379\")' || echo refused"
    assert cluster.ray("exec", str(cluster.file), refused).splitlines()[-2].strip() == "refused"

    tiny = {
        "data.size": 8, "data.limit": 160, "data.validation": 0.2, "model.name": "mlp", "dense.epochs": 1,
        "pruning.epochs": 1, "search.steps": 2, "search.epochs": 1, "finetune.epochs": 1, "finetune.epochs_per_step": 1,
        "tune.trials": 2, "tune.grace_period": 1, "final.folds": 2, "final.epochs": 1, "final.ablations": "[]",
    }  # fmt: skip
    keys = " ".join(f"{key}={value}" for key, value in tiny.items())
    command = f"python -m safs_ray.tune {keys} run.address=auto run.name=tiny run.storage={cluster.folder}/shared"
    output = cluster.ray("exec", str(cluster.file), f"cd ~/safs_ray && {command}")
    assert "SAFS" in output
    assert (cluster.folder / "shared" / "tiny" / "results.json").exists()

    assert re.search("No nodes remaining", cluster.ray("down", "--yes", str(cluster.file)))
