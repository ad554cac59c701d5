"""Who may do what, how guessing ends, and that the audit log cannot be changed unnoticed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

pytest.importorskip("argon2", reason="argon2-cffi is not installed (carina[serve])")

from carina.errors import PeopleError, SignInRefused
from carina.serving import auditlog, doorkeeper, people
from carina.serving.database import Database
from carina.serving.people import Role
from carina.serving.schema import AuditEntry, Base, SignInAttempt, User, WebSession

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
PASSWORD = "three red herrings swim"
HERE, ELSEWHERE = "10.0.0.7", "10.0.0.8"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same argon2id with a thousandth of the work: tests guess a hundred times."""
    from argon2 import PasswordHasher

    quick = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(people, "_hasher", lambda: quick)
    people._nobody.cache_clear()


@pytest.fixture
def site(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'site.sqlite'}")
    Base.metadata.create_all(database.engine)
    with database.write() as session:
        people.add_user(session, "Ada", PASSWORD, Role.READER, NOW)
        people.add_user(session, "root", PASSWORD, Role.ADMIN, NOW)
    return database


def guess(site: Database, password: str, name: str = "ada", address: str = HERE, at: datetime = NOW) -> str:
    try:
        return doorkeeper.sign_in(site, name, password, address, at, hours=12).token
    except SignInRefused as refused:
        return "wait" if refused.wait else "wrong"


@pytest.mark.parametrize(
    ("role", "viewer", "reader", "admin"),
    [
        (Role.VIEWER, True, False, False),
        (Role.READER, True, True, False),
        (Role.ADMIN, True, True, True),
    ],
)
def test_each_role_may_do_what_the_one_before_may(
    role: Role, viewer: bool, reader: bool, admin: bool
) -> None:
    assert [role.may(needed) for needed in Role] == [viewer, reader, admin]


def test_neither_passwords_nor_tokens_nor_keys_are_kept(site: Database) -> None:
    token = guess(site, PASSWORD)
    with site.write() as session:
        key = people.add_key(session, "pacs", Role.READER, NOW)
    site.close()
    kept = b"".join(path.read_bytes() for path in Path(site.url.database or "").parent.iterdir())
    assert b"$argon2id$" in kept
    assert not [secret for secret in (PASSWORD, token, key) if secret.encode() in kept]


def test_a_session_ends_when_its_time_is_over_and_when_its_user_is_kept_out(site: Database) -> None:
    token = guess(site, PASSWORD)
    with site.read() as session:
        person = people.of_session(session, token, NOW + timedelta(hours=11))
        assert person is not None
        assert (person.name, person.role) == ("ada", Role.READER)
        assert people.of_session(session, token, NOW + timedelta(hours=12)) is None
        assert people.of_session(session, token + "x", NOW) is None
    with site.write() as session:
        people.set_active(session, "ada", False)
    with site.read() as session:
        assert people.of_session(session, token, NOW) is None
    assert guess(site, PASSWORD) == "wrong"


def test_a_new_password_signs_out_everywhere(site: Database) -> None:
    guess(site, PASSWORD)
    with site.write() as session:
        people.set_password(session, "ADA", "another four words here")
        assert session.scalar(select(func.count()).select_from(WebSession)) == 0
    assert guess(site, PASSWORD) == "wrong"
    assert len(guess(site, "another four words here")) > 40


def test_a_key_opens_until_it_is_revoked(site: Database) -> None:
    with site.write() as session:
        key = people.add_key(session, "pacs", Role.VIEWER, NOW)
    with site.write() as session:
        person = people.of_key(session, key)
        assert person is not None
        assert (person.name, person.role, person.csrf) == ("key:pacs", Role.VIEWER, None)
        people.revoke_key(session, "pacs", NOW)
        assert people.of_key(session, key) is None
        with pytest.raises(PeopleError, match="was, a key"):
            people.add_key(session, "pacs", Role.VIEWER, NOW)


@pytest.mark.parametrize("password", ["short", "x" * 300, "ada ada ada", ""])
def test_poor_passwords_are_refused(site: Database, password: str) -> None:
    with site.write() as session, pytest.raises(PeopleError, match="password"):
        people.set_password(session, "ada", password)


def test_the_last_admin_stays_one(site: Database) -> None:
    with site.write() as session:
        with pytest.raises(PeopleError, match="only admin"):
            people.set_role(session, "root", Role.VIEWER)
        with pytest.raises(PeopleError, match="only admin"):
            people.set_active(session, "root", False)
        people.set_role(session, "ada", Role.ADMIN)
        people.set_role(session, "root", Role.VIEWER)


def test_the_sixth_guess_from_one_place_is_not_looked_at_and_elsewhere_the_user_still_gets_in(
    site: Database,
) -> None:
    assert [guess(site, "no") for _ in range(6)] == ["wrong"] * 5 + ["wait"]
    assert guess(site, PASSWORD) == "wait", "a right password does not tell itself by being taken"
    assert len(guess(site, PASSWORD, address=ELSEWHERE)) > 40
    assert len(guess(site, PASSWORD, at=NOW + timedelta(minutes=16))) > 40


def test_ten_wrong_guesses_a_minute_from_one_address_whatever_the_account(site: Database) -> None:
    said = [guess(site, "no", name=f"somebody{n}") for n in range(200)]
    assert said.count("wrong") == 10
    assert said.count("wait") == 190
    assert guess(site, "no", name="ada", at=NOW + timedelta(minutes=2)) == "wrong"


def test_fifty_guesses_from_many_addresses_close_an_account_for_strangers_only(site: Database) -> None:
    assert len(guess(site, PASSWORD, address=HERE)) > 40
    said = [guess(site, "no", address=f"172.16.0.{n}") for n in range(60)]
    assert said.count("wrong") == 50
    assert guess(site, PASSWORD, address="172.16.1.1") == "wait"
    assert len(guess(site, PASSWORD, address=HERE)) > 40


def test_what_was_typed_as_a_name_is_kept_nowhere(site: Database) -> None:
    guess(site, "no", name="my password by mistake")
    with site.read() as session:
        assert len(session.scalars(select(SignInAttempt.account_sha256)).one()) == 64
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "sign-in refused")).one()
    assert entry.actor == "somebody"


def test_an_unknown_name_takes_as_long_as_a_known_one(site: Database) -> None:
    with site.read() as session:
        kept = session.scalars(select(User.password).where(User.name == "ada")).one()
    assert not people.is_password(None, PASSWORD)
    assert people._nobody().split("$")[:4] == kept.split("$")[:4], "the same work"
    assert people.is_password(kept, PASSWORD)


@pytest.fixture
def logged(site: Database) -> Database:
    for number in range(20):
        with site.write() as session:
            detail = {"to": "soon", "share": 0.1 + 0.2, "word": "日本"}
            auditlog.append(session, "ada", "study opened", f"study {number}", detail, now=NOW)
    return site


def verdict(site: Database, head: str | None = None) -> auditlog.Verdict:
    with site.read() as session:
        return auditlog.verify(session, head)


def test_a_log_that_nobody_touched_holds(logged: Database) -> None:
    found = verdict(logged)
    assert found.holds
    assert found.entries == 20
    with logged.write() as session:
        auditlog.append(session, "ada", "study read", "study 3")
    assert verdict(logged, found.head).holds


@pytest.mark.parametrize("column", ["actor", "action", "subject", "detail", "at", "previous", "hash"])
def test_a_changed_entry_is_found_at_its_place(logged: Database, column: str) -> None:
    value: object = {"detail": {}, "at": NOW + timedelta(seconds=1)}.get(column, "0" * 64)
    with logged.write() as session:
        session.execute(update(AuditEntry).where(AuditEntry.id == 7).values({column: value}))
    found = verdict(logged)
    assert not found.holds
    assert found.entries == 6
    assert "entry 7" in str(found.fault)


def test_a_removed_entry_is_found_in_the_middle_and_with_a_noted_hash_at_the_end(logged: Database) -> None:
    head = verdict(logged).head
    with logged.write() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.id == 20))
    assert verdict(logged).holds, "nothing in the chain itself can show this"
    assert "cut off" in str(verdict(logged, head).fault)
    with logged.write() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.id == 9))
    assert "entry 10" in str(verdict(logged).fault)


def test_an_entry_falls_with_the_transaction_it_belongs_to(logged: Database) -> None:
    def half_way() -> None:
        with logged.write() as session:
            auditlog.append(session, "ada", "study read", "study 3")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert verdict(logged).entries == 20


def test_the_command_line_lets_people_in_and_checks_the_log(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from carina.cli import app

    def run(*arguments: str, typed: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path / "site")], input=typed)
        return result.exit_code, result.output + (str(result.exception) if result.exception else "")

    assert run("audit-log", "verify")[0] == 1, "a log that is not there does not hold"
    assert not (tmp_path / "site").exists()
    code, said = run("user", "add", "Grace", "--role", "admin", "--password-stdin", typed=PASSWORD + "\n")
    assert (code, said) == (0, "grace may sign in as admin\n")
    assert "there is such a user" in run("user", "add", "grace", "--password-stdin", typed=PASSWORD)[1]
    assert "no such role" in run("user", "role", "grace", "king")[1]
    code, key = run("key", "add", "pacs", "--role", "reader")
    assert key.startswith("carina_")
    assert key.strip() not in run("key", "list")[1]
    code, said = run("audit-log", "verify")
    assert code == 0
    assert said.startswith("2 entries, all as they were written\nnewest hash ")
    database = Database(f"sqlite:///{tmp_path / 'site' / 'carina.sqlite'}")
    with database.write() as session:
        session.execute(update(AuditEntry).where(AuditEntry.id == 1).values(actor="nobody"))
    database.close()
    code, said = run("audit-log", "verify")
    assert code == 1
    assert "entry 1 of" in said
