"""cluster/gpu.yaml and the policies of its nodes, against moto's AWS on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.core import set_initial_no_auth_action_count
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

from safs_ray.storage import Folder

ROOT = Path(__file__).parents[2]
GPU = ROOT / "cluster" / "gpu.yaml"
REGION = "us-west-2"


@dataclass(frozen=True)
class Aws:
    """An account with what a user makes before `ray up`."""

    url: str
    image: str
    group: str

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name=REGION)

    def launchable(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values of gpu.yaml with what is to be edited filled in."""
        text = yaml.safe_dump(values, sort_keys=False).replace("ami-EDIT", self.image).replace("sg-EDIT", self.group)
        edited: dict[str, Any] = yaml.safe_load(text)
        return edited

    def key(self, policy: str) -> dict[str, str]:
        """The access key of a new user who may do what a policy in cluster/aws says, and no more."""
        iam, name = self.client("iam"), uuid.uuid4().hex
        document = (ROOT / "cluster" / "aws" / policy).read_text().replace("BUCKET", "bucket")
        document = re.sub('"arn:aws:ec2:[^"]*"', '"*"', document)  # moto knows no single nodes here, nor conditions
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}


@pytest.fixture(scope="module")
def aws(bucket: str) -> Aws:
    address = bucket.partition("endpoint_override=")[2].partition("&")[0]
    account = Aws(f"http://{address}", "", "")
    ec2 = account.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="safs-ray", Description="nodes", VpcId=network)["GroupId"]
    for node in ("head", "worker"):
        account.client("iam").create_instance_profile(InstanceProfileName=f"safs-ray-{node}")
    return replace(account, image=image, group=group)


@pytest.fixture
def nodes() -> dict[str, Any]:
    kinds: dict[str, Any] = yaml.safe_load(GPU.read_text())["available_node_types"]
    return {name: kind["node_config"] for name, kind in kinds.items()}


def test_no_node_has_a_group_or_rights_of_rays_making(nodes: dict[str, Any]) -> None:
    assert {node["IamInstanceProfile"]["Name"] for node in nodes.values()} == {"safs-ray-head", "safs-ray-worker"}
    for node in nodes.values():
        assert node["SecurityGroupIds"] == ["sg-EDIT"]
        assert node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        for disk in node["BlockDeviceMappings"]:
            assert disk["Ebs"]["Encrypted"]
            assert disk["Ebs"]["DeleteOnTermination"]
    assert "security_group" not in yaml.safe_load(GPU.read_text())["provider"]


def test_workers_come_and_go_and_no_trial_runs_on_the_head() -> None:
    values = yaml.safe_load(GPU.read_text())
    kinds = values["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert kinds["worker"]["resources"]["GPU"] == 1
    assert kinds["worker"]["min_workers"] == 0
    assert kinds["worker"]["max_workers"] == values["max_workers"]
    assert not values["provider"]["cache_stopped_nodes"]


@pytest.mark.parametrize("policy", ["head.json", "worker.json"])
def test_a_policy_is_enough_for_a_run_folder_and_for_no_other_bucket(
    aws: Aws, bucket: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.client("s3").create_bucket(Bucket=f"other-{policy}", CreateBucketConfiguration={"LocationConstraint": REGION})
    for name, value in aws.key(policy).items():
        monkeypatch.setenv(name.upper(), value)
    reached = bucket.partition("?")[2].replace("us-east-1", f"eu-west-{len(policy)}")  # opened as this user

    @set_initial_no_auth_action_count(0)
    def use() -> None:
        folder = Folder.at(f"s3://bucket/{policy}?{reached}")
        folder.write("a", b"1")
        (folder / "inner").write("b", bytes(12_000_000))
        assert folder.read("a") == b"1"
        assert (folder.names(), folder.folders()) == (["a"], ["inner"])
        assert not folder.exists("c")  # to delete, moto wants rights on the bucket, where AWS wants them on each key
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            Folder.at(f"s3://other-{policy}?{reached}").write("a", b"1")

    use()


def test_the_heads_policy_is_enough_for_rays_autoscaler_and_the_workers_is_not(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(GPU.read_text())
    node = aws.launchable(values)["available_node_types"]["worker"]["node_config"]
    subnet = aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)

    def autoscale(policy: str) -> None:
        reached = {**values["provider"], "region": REGION, "aws_credentials": aws.key(policy)}

        @set_initial_no_auth_action_count(0)
        def launch_and_end() -> None:
            provider = AWSNodeProvider(reached, f"autoscaled by {policy}")
            tags = {"ray-node-type": "worker", "ray-user-node-type": "worker", "ray-launch-config": "1"}
            provider.create_node({**node, "SubnetIds": [subnet]}, tags, 1)
            (worker,) = provider.non_terminated_nodes({})
            provider.set_node_tags(worker, {"ray-node-status": "up-to-date"})
            provider.terminate_node(worker)

        launch_and_end()

    autoscale("head.json")
    with pytest.raises(NodeLaunchException, match=r"not authorized to perform: ec2:RunInstances"):
        autoscale("worker.json")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder for PATH whose ssh and rsync do nothing but write down what they were asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ssh", "rsync"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> {tmp_path}/asked\n')
        program.chmod(0o755)
    return programs


@pytest.mark.slow
def test_ray_up_launches_the_head_as_written_and_ray_down_leaves_nothing(
    aws: Aws, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("a" * 64)
    file = tmp_path / "gpu.yaml"
    file.write_text(yaml.safe_dump(aws.launchable(yaml.safe_load(GPU.read_text())), sort_keys=False))
    for name, value in {
        "HOME": str(home),
        "PATH": f"{recorded}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": aws.url,
        "RAY_USAGE_STATS_ENABLED": "1",
    }.items():
        monkeypatch.setenv(name, value)
    groups = aws.client("ec2").describe_security_groups()["SecurityGroups"]

    ray("up", "--yes", "--no-config-cache", str(file))
    (head,) = instances(aws, "running")
    assert head["InstanceType"] == "m7i.xlarge"
    assert head["ImageId"] == aws.image
    assert [group["GroupId"] for group in head["SecurityGroups"]] == [aws.group]
    assert head["IamInstanceProfile"]["Arn"].endswith("/safs-ray-head")
    assert head["MetadataOptions"]["HttpTokens"] == "required"
    assert "InstanceLifecycle" not in head, "the head is not on spot"
    assert aws.client("ec2").describe_security_groups()["SecurityGroups"] == groups
    assert all(not group["IpPermissions"] for group in groups), "no port was opened"
    assert aws.client("iam").list_roles()["Roles"] == []

    address = f"ubuntu@{head['PublicIpAddress']}"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert all(address in line for line in asked)
    copied = [line.rpartition(":")[2] for line in asked if line.startswith("rsync")]
    assert copied == ["~/safs_ray/", "~/.ray/auth_token", "~/ray_bootstrap_config.yaml", "~/ray_bootstrap_key.pem"]
    commands = "\n".join(line.partition("PYTHONWARNINGS=ignore && ")[2] for line in asked)
    order = ["chmod 600 ~/.ray/auth_token", "uv venv", "uv pip install", "RAY_AUTH_MODE=token", "ray stop", "ray start"]
    assert [commands.index(part) for part in order] == sorted(commands.index(part) for part in order)
    assert "pip install 'boto3" not in commands
    start = commands.splitlines()[-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "0.0.0.0" not in commands
    assert re.findall(r"RAY_USAGE_STATS_ENABLED=(\d)", start) == ["1", "0"], "the last one counts, and is ours"

    ray("down", "--yes", str(file))
    assert instances(aws, "running") == []


def ray(*arguments: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ray"), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout


def instances(aws: Aws, state: str) -> list[dict[str, Any]]:
    named = [
        {"Name": "tag:ray-cluster-name", "Values": ["safs-ray"]},
        {"Name": "instance-state-name", "Values": [state]},
    ]
    found = aws.client("ec2").describe_instances(Filters=named)["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def test_policies_name_what_must_be_edited() -> None:
    for name in ("head.json", "worker.json"):
        text = (ROOT / "cluster" / "aws" / name).read_text()
        actions = [action for statement in json.loads(text)["Statement"] for action in statement["Action"]]
        assert not [action for action in actions if "*" in action]
        assert "BUCKET" in text
