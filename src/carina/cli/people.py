"""The verbs of people and rights: user, key, audit-log. They work on the database, served or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carina.cli.sites import Config, Data, site
from carina.errors import PeopleError

if TYPE_CHECKING:
    from carina.serving.database import Database
    from carina.serving.people import Role

app = typer.Typer()
user = typer.Typer(help="People who sign in to the page.", no_args_is_help=True)
key = typer.Typer(help="Keys for programs that use the REST interface.", no_args_is_help=True)
log = typer.Typer(help="Who did what.", no_args_is_help=True)
app.add_typer(user, name="user")
app.add_typer(key, name="key")
app.add_typer(log, name="audit-log")

ACTOR = "command line"  # whoever can run these verbs owns the database

Stdin = Annotated[
    bool, typer.Option("--password-stdin", help="Take the password from standard input; no questions.")
]
RoleName = Annotated[str, typer.Option("--role", help="viewer, reader or admin.")]
Name = Annotated[str, typer.Argument(help="Whose.")]


@user.command("add")
def user_add(
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    role: RoleName = "reader",
    password_stdin: Stdin = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Let somebody in."""
    with _people(config, data) as database:
        from carina.serving import auditlog, people

        wanted, password = _role(role), _password(name, password_stdin)
        with database.write() as session:
            made = people.add_user(session, name, password, wanted, datetime.now(UTC))
            auditlog.append(session, ACTOR, "user added", f"user {made.name}", {"role": made.role})
        _say(f"{made.name} may sign in as {made.role}")


@user.command("list")
def user_list(config: Config = None, data: Data = None) -> None:
    """All users."""
    from carina.terminal import output, show, table

    with _people(config, data) as database, database.read() as session:
        from carina.serving import people

        rows = [
            (
                each.name,
                each.role,
                "may sign in" if each.active else "kept out",
                each.failures,
                f"{each.created_at:%Y-%m-%d}",
            )
            for each in people.users(session)
        ]
    show(output(), table(("name", "role", "", "wrong passwords", "since"), rows))


@user.command("password")
def user_password(
    name: Name, password_stdin: Stdin = False, config: Config = None, data: Data = None
) -> None:
    """Set a new password; the user is signed out everywhere."""
    with _people(config, data) as database:
        from carina.serving import auditlog, people

        with database.read() as session:
            people.find_user(session, name)
        password = _password(name, password_stdin)
        with database.write() as session:
            found = people.set_password(session, name, password)
            auditlog.append(session, ACTOR, "password set", f"user {found.name}")
        _say(f"{found.name} has a new password")


@user.command("role")
def user_role(
    name: Name,
    role: Annotated[str, typer.Argument(help="viewer, reader or admin.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Give a user another role."""
    with _people(config, data) as database, database.write() as session:
        from carina.serving import auditlog, people

        found = people.set_role(session, name, _role(role))
        auditlog.append(session, ACTOR, "role set", f"user {found.name}", {"role": found.role})
        _say(f"{found.name} is {found.role} now")


@user.command("keep-out")
def user_keep_out(
    name: Name,
    again: Annotated[bool, typer.Option("--let-in", help="The opposite: let the user in again.")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Sign a user out everywhere and let them in no more. The log keeps their name."""
    with _people(config, data) as database, database.write() as session:
        from carina.serving import auditlog, people

        found = people.set_active(session, name, again)
        auditlog.append(session, ACTOR, "user let in" if again else "user kept out", f"user {found.name}")
        _say(f"{found.name} may sign in again" if again else f"{found.name} is kept out")


@key.command("add")
def key_add(
    name: Annotated[str, typer.Argument(help="What the program is called.")],
    role: RoleName = "reader",
    config: Config = None,
    data: Data = None,
) -> None:
    """A key for a program. It is printed once and cannot be shown again."""
    with _people(config, data) as database, database.write() as session:
        from carina.serving import auditlog, people

        made = people.add_key(session, name, _role(role), datetime.now(UTC))
        auditlog.append(session, ACTOR, "key added", f"key {name}", {"role": role})
    _say(made)


@key.command("list")
def key_list(config: Config = None, data: Data = None) -> None:
    """All keys, without the keys themselves."""
    from carina.terminal import output, show, table

    with _people(config, data) as database, database.read() as session:
        from carina.serving import people

        rows = [
            (
                each.name,
                each.role,
                f"{each.created_at:%Y-%m-%d}",
                f"revoked {each.revoked_at:%Y-%m-%d}" if each.revoked_at else "holds",
            )
            for each in people.keys(session)
        ]
    show(output(), table(("name", "role", "since", ""), rows))


@key.command("revoke")
def key_revoke(name: Name, config: Config = None, data: Data = None) -> None:
    """End a key for good."""
    with _people(config, data) as database, database.write() as session:
        from carina.serving import auditlog, people

        people.revoke_key(session, name, datetime.now(UTC))
        auditlog.append(session, ACTOR, "key revoked", f"key {name}")
    _say(f"{name} is revoked")


@log.callback()
def _log() -> None:
    """Who did what."""


@log.command("verify")
def log_verify(
    head: Annotated[
        str | None, typer.Option(help="A newest hash that was noted earlier; it must still be there.")
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Walk the chain of hashes and say whether anybody changed the log. Exit code 1 if so."""
    with _people(config, data, exists=True) as database, database.read() as session:
        from carina.serving import auditlog

        verdict = auditlog.verify(session, head)
    if not verdict.holds:
        raise PeopleError(
            f"the audit log does not hold: {verdict.fault} ({verdict.entries} entries before it do); "
            "compare it with a backup"
        )
    _say(f"{verdict.entries} entries, all as they were written\nnewest hash {verdict.head}")


@contextmanager
def _people(config: Path | None, data: Path | None, *, exists: bool = False) -> Iterator[Database]:
    """The database of the settings, with its tables."""
    with site(config, data, who="carina user, key and audit-log", needs="argon2", exists=exists) as found:
        yield found[1]


def _password(name: str, from_stdin: bool) -> str:
    if from_stdin:
        return typer.get_text_stream("stdin").readline().rstrip("\r\n")
    return str(typer.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True))


def _role(name: str) -> Role:
    from carina.serving.people import Role

    if name not in list(Role):
        raise PeopleError(f"{name}: there is no such role; give viewer, reader or admin")
    return Role(name)


def _say(text: str) -> None:
    from carina.terminal import output

    output().print(text, markup=False, highlight=False, soft_wrap=True)
