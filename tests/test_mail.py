"""Mail that is put into a folder."""

import asyncio
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from licensing.mail import MailFolder


def a_message(message_id: str = "<one@example.com>", text: str = "Ærø\n") -> EmailMessage:
    message = EmailMessage()
    message["To"] = "ada@example.com"
    message["Message-ID"] = message_id
    message.set_content(text)
    return message


def send(folder: Path, *messages: EmailMessage) -> None:
    async def send_all() -> None:
        await asyncio.gather(*(MailFolder(folder).send(message) for message in messages))

    asyncio.run(send_all())


def test_a_message_is_a_file_that_reads_the_same(tmp_path: Path) -> None:
    send(tmp_path, a_message())
    (file,) = tmp_path.iterdir()
    assert file.name == "one@example.com.eml"
    read = message_from_bytes(file.read_bytes(), policy=policy.default)
    assert (read["To"], read.get_content().strip()) == ("ada@example.com", "Ærø")
    assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n")


def test_a_repeat_takes_its_own_place_and_others_theirs(tmp_path: Path) -> None:
    for message_id, text in (("<1@x>", "one"), ("<2@x>", "two"), ("<1@x>", "again")):
        send(tmp_path, a_message(message_id, text))
    assert {file.name: "again" in file.read_text() for file in tmp_path.iterdir()} == {
        "1@x.eml": True,
        "2@x.eml": False,
    }


@pytest.mark.parametrize("message_id", ["<../../up@x>", "<a/b@x>", "<..>", "</etc/passwd>", "<\\\\share\\a@x>"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, message_id: str) -> None:
    folder = tmp_path / "mail"
    folder.mkdir()
    send(folder, a_message(message_id))
    assert [*tmp_path.iterdir()] == [folder]
    (file,) = folder.iterdir()
    assert file.suffix == ".eml"


def test_nobody_finds_half_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Path, _target: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):  # noqa: PT011 - it has no more to say
        send(tmp_path, a_message())
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        send(tmp_path / "gone", a_message())


def test_messages_at_once_are_all_there(tmp_path: Path) -> None:
    send(tmp_path, *(a_message(f"<{number}@x>") for number in range(20)))
    assert len([*tmp_path.iterdir()]) == 20
