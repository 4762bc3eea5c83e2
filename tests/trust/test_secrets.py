"""Secrets of the environment, of the command line and of addresses reach no record, no log and no message."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.console import note
from latentbench.core.secrets import HIDDEN, hide_in_arguments, without_secrets
from latentbench.data.sources import obtain
from latentbench.running import provenance

VALUES = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCY",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "GITHUB_TOKEN": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "MY_DB_PASSWORD": "correct horse battery",
    "SOME_SECRET": "s3cr3t\nof two lines",
    "PRIVATE_KEY": "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG\n-----END KEY-----",
}
PARTS = [line for value in VALUES.values() for line in value.splitlines() if len(line) >= 8]


@pytest.fixture
def secrets(monkeypatch):
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


#: Variables that common programs read, and what of each may stand in a message by itself.
COMMON = {
    "MYSQL_PWD": "mysqlpwd77",
    "PGPASSWORD": "pgpassword9",
    "SSHPASS": "sshpass10xx",
    "RCLONE_CONFIG_PASS": "rclonepass11",
    "REDISCLI_AUTH": "redis-auth-12",
    "SHORT_PASSWORD": "abc1234",
    "DATABASE_URL": "postgres://du:dburlpass8@h/db",
    "HTTPS_PROXY": "http://proxyuser:proxypass99@127.0.0.1:9",
    "FSSPEC_S3": '{"key": "k", "secret": "fsspecjson2"}',
    "DOCKER_AUTH_CONFIG": '{"auths":{"r":{"auth":"dockerauth13=="}}}',
    "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=azurekey15==;X=y",
    "AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=sassig16xx",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T000/B000/slackhook12",
    "DISCORD_WEBHOOK": "https://discord.com/api/webhooks/123/discordhook19",
    "KAGGLE_KEY": "kagglekey14x",
    "TS_AUTHKEY": "tsauthkey19",
}
WORDS = {
    "DATABASE_URL": "dburlpass8",
    "HTTPS_PROXY": "proxypass99",
    "FSSPEC_S3": "fsspecjson2",
    "AZURE_STORAGE_CONNECTION_STRING": "azurekey15==",
}


@pytest.mark.parametrize("name", COMMON)
def test_variables_of_common_programs(monkeypatch, name):
    monkeypatch.setenv(name, COMMON[name])
    for value in (COMMON[name], WORDS.get(name, COMMON[name])):
        shown = without_secrets(f"could not log in with {value}")
        assert shown.startswith("could not log in with")
        word = WORDS.get(name) or next(p for p in reversed(COMMON[name].replace('"', "/").split("/")) if len(p) > 5)
        assert word not in shown


@pytest.mark.parametrize("name", ["DOCKER_AUTH_CONFIG", "SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK", "DATABASE_URL"])
def test_forms_without_the_variable(name):
    assert HIDDEN in without_secrets(COMMON[name])


def test_a_working_directory_is_no_password(monkeypatch):
    monkeypatch.setenv("PWD", "/home/somebody")
    monkeypatch.setenv("OLDPWD", "/home/somebody")
    assert without_secrets("in /home/somebody") == "in /home/somebody"


LONG = ["a-", "://", "api_key=", '"secret" ', "bearer ", "token", "sk-", "hf_", "://a", "a" * 50 + "@", "api_", "x=y&"]


@pytest.mark.parametrize("piece", LONG)
def test_time_grows_as_the_text(piece):
    """Eight times the text takes eight times the time: what is quadratic takes 64 times."""

    def seconds(n: int) -> float:
        text = (piece * n)[:n]
        began = time.process_time()
        without_secrets(text)
        return time.process_time() - began

    short = min(seconds(20_000) for _ in range(3))
    assert min(seconds(160_000) for _ in range(2)) < 32 * short + 0.05


def leaks(text: str) -> list[str]:
    return [part for part in PARTS if part in text]


@pytest.mark.parametrize("name", VALUES)
def test_values_of_the_environment(secrets, name):
    text = without_secrets(f"could not log in with {VALUES[name]!s} to host")
    assert leaks(text) == []
    assert HIDDEN in text
    assert text.startswith("could not log in with ")
    assert text.endswith(" to host")


ADDRESSES = {
    "https://user:pa55word@host/x.git": "https://***@host/x.git",
    "https://token@host/x": "https://***@host/x",
    "ssh://git@host/x": "ssh://***@host/x",
    "see https://u:p@h:80/a?token=abc&b=1, please": "see https://***@h:80/a?token=***&b=1, please",
    "https://h/a?X-Amz-Signature=abcdef": "https://h/a?X-Amz-Signature=***",
    "Authorization: Bearer abcdefgh.ijk-l": "Authorization: Bearer ***",
    "Authorization: Basic dXNlcjpwYXNz": "Authorization: Basic ***",
    "api_key=abc password=x": "api_key=*** password=***",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a": "***",
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_and_what_is_called_a_secret(text):
    assert without_secrets(text) == ADDRESSES[text]


PLAIN = [
    "latent_dim=2",
    "max_tokens=512",
    "the key is missing",
    "user@host",
    "wide--line--cpu--s0",
    "sha256 " + "a" * 64,
]
PLAIN += [
    "torch.Size([2, 3])",
    "https://example.org/a?b=c",
    "monkey=banana",
    "hidden is 0 (1 or more)",
    "tokenizer=bpe",
]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_stays(text):
    assert without_secrets(text) == text


def test_short_values_and_other_names_are_no_secrets(monkeypatch):
    monkeypatch.setenv("API_KEY", "yes")
    monkeypatch.setenv("KEYBOARD", "us-international")
    monkeypatch.setenv("MONKEY", "chimpanzee")
    text = "yes, us-international and chimpanzee"
    assert without_secrets(text) == text


@given(st.text())
def test_any_text(text):
    assert without_secrets(without_secrets(text)) == without_secrets(text)


def test_command_lines(secrets, monkeypatch):
    typed = ["run", "small", "--api-key", "abc", "--token=abc", "https://u:p@h/x", VALUES["HF_TOKEN"], "--seeds", "3"]
    shown = ["run", "small", "--api-key", HIDDEN, f"--token={HIDDEN}", f"https://{HIDDEN}@h/x", HIDDEN, "--seeds", "3"]
    assert hide_in_arguments(typed) == shown
    monkeypatch.setattr(sys, "argv", ["/home/somebody/bin/latentbench", *typed])
    assert provenance.command_line() == ["latentbench", *shown]


def test_notes(secrets, capfd):
    for value in VALUES.values():
        note(f"error: {value}")
    assert leaks(capfd.readouterr().err) == []


def everything(folder) -> str:
    """All bytes of all files below a folder."""
    return "\n".join(p.read_bytes().decode(errors="replace") for p in sorted(folder.rglob("*")) if p.is_file())


def test_a_run_that_fails_with_a_secret_in_its_message(project, secrets, monkeypatch):
    """It stands in the error, in the traceback and in a metric's failure; the record keeps none of it."""
    import latentbench_toy_model as toy

    def loss(self, batch, generator):
        raise RuntimeError(" ".join([*VALUES.values(), "https://user:pa55word@host/"]))

    monkeypatch.setattr(toy.Toy, "loss", loss)
    monkeypatch.setattr(sys, "argv", ["latentbench", "run", VALUES["HF_TOKEN"]])
    project.suite()
    answer = project.run("small", "--seeds", "1", "--method", "wide")
    assert answer.code == 1
    [path] = project.results.rglob("record.json")
    assert path.with_name("traceback.txt").is_file()
    kept = everything(project.results)
    assert HIDDEN in kept
    assert leaks(kept + answer.out + answer.err) == []
    assert "pa55word" not in kept + answer.err


def test_a_metric_that_fails_with_a_secret_in_its_message(project, secrets, monkeypatch):
    import latentbench_toy_model as toy

    def measure(model, view, settings, generator):
        raise RuntimeError(VALUES["WANDB_API_KEY"])

    monkeypatch.setattr(toy, "measure", measure)
    project.suite({"metrics": {"toy_metric": {}}})
    project.run("small", "--seeds", "1", "--method", "wide")
    kept = everything(project.results)
    assert "RuntimeError" in kept
    assert leaks(kept) == []


@pytest.mark.slow
def test_wandb_keeps_none(project, secrets):
    """A run tracked offline in a process of its own, secrets in its environment and on its command line."""
    pytest.importorskip("wandb")
    project.suite()
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(project.root / "wandb")}
    command = [sys.executable, "-m", "latentbench", "run", "small", "--seeds=1", "--method=wide", "--jobs=1", "-q"]
    command += ["--wandb=offline", f"--dataset=lin[e{VALUES['HF_TOKEN']}]"]
    done = subprocess.run(command, cwd=project.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(project.results.rglob("*.wandb")), "it was tracked"
    assert leaks(everything(project.root) + done.stdout + done.stderr) == []
    assert "remote" not in "".join(p.name for p in project.results.rglob("*"))


def test_a_mirror_and_addresses_with_a_password(project, monkeypatch):
    from latentbench.core.errors import UserError
    from latentbench.data.registry import File, Form, load_entry

    monkeypatch.setenv("LATENTBENCH_MIRROR", "https://user:pa55word@mirror.example/data")
    file = File(name="a", mirror="x/a", urls=("http://user:pa55word@127.0.0.1:9/a",), sha256="0" * 64)
    entry = load_entry("digits").model_copy(
        update={"kind": "real", "forms": (Form(loader="latentbench.data.loaders.idx:load", files=(file,)),)}
    )
    monkeypatch.setattr("latentbench.data.download._ATTEMPTS", 1)
    with pytest.raises(UserError) as e:
        obtain(entry)
    note(f"error: {e.value}")
    answer = project._capture.readouterr()
    assert "no source has it" in answer.err
    assert "pa55word" not in answer.err


def test_doctor_says_that_there_are_secrets_not_what_they_are(project, secrets):
    for form in ("table", "json"):
        answer = project("doctor", "--format", form)
        assert leaks(answer.out + answer.err) == []
