"""The REST interface of admins: people, keys, the audit log. Each change stands in the log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from sqlalchemy import select

from carina.errors import PeopleError
from carina.serving import auditlog, people
from carina.serving.people import Role
from carina.serving.schema import ApiKey, AuditEntry, User
from carina.serving.web.forms import (
    Answers,
    KeyFacts,
    KeyMade,
    LogEntry,
    LogVerdict,
    NewKey,
    NewUser,
    UserChange,
    UserFacts,
    UserName,
)
from carina.serving.web.site import Here
from carina.serving.web.who import Admin

router = APIRouter(prefix="/api/v1", tags=["admins"])

_Name = Annotated[UserName, Path(description="name of the user or key")]
_TAKEN: Answers = {409: {"description": "not possible, and why"}}
_ABSENT: Answers = {404: {"description": "there is nobody of this name"}, **_TAKEN}


@router.get("/users")
def users(site: Here, person: Admin) -> list[UserFacts]:
    """All users."""
    with site.database.read() as session:
        return [_user(each) for each in people.users(session)]


@router.post("/users", status_code=201, responses=_TAKEN)
def add_user(wanted: NewUser, site: Here, person: Admin) -> UserFacts:
    """Let somebody in."""
    now = site.clock()
    with site.database.write() as session:
        made = people.add_user(session, wanted.name, wanted.password, wanted.role, now)
        auditlog.append(session, person.name, "user added", f"user {made.name}", {"role": made.role}, now=now)
        return _user(made)


@router.patch("/users/{name}", responses=_ABSENT)
def change_user(name: _Name, wanted: UserChange, site: Here, person: Admin) -> UserFacts:
    """Another role, another password, or kept out. A changed password signs the user out everywhere."""
    with site.database.write() as session:
        try:
            found = people.find_user(session, name)
        except PeopleError as fault:
            raise HTTPException(404, str(fault)) from None
        if wanted.role is not None:
            people.set_role(session, name, wanted.role)
        if wanted.active is not None:
            people.set_active(session, name, wanted.active)
        if wanted.password is not None:
            people.set_password(session, name, wanted.password)
        detail = {
            **wanted.model_dump(exclude={"password"}, exclude_none=True, mode="json"),
            **({"new": "password"} if wanted.password is not None else {}),
        }
        auditlog.append(session, person.name, "user changed", f"user {found.name}", detail, now=site.clock())
        return _user(found)


@router.get("/keys")
def keys(site: Here, person: Admin) -> list[KeyFacts]:
    """All keys, without the keys themselves."""
    with site.database.read() as session:
        return [_key(each) for each in people.keys(session)]


@router.post("/keys", status_code=201, responses=_TAKEN)
def add_key(wanted: NewKey, site: Here, person: Admin) -> KeyMade:
    """A key for a program; it is shown this once."""
    now = site.clock()
    with site.database.write() as session:
        key = people.add_key(session, wanted.name, wanted.role, now)
        auditlog.append(
            session, person.name, "key added", f"key {wanted.name}", {"role": wanted.role}, now=now
        )
    return KeyMade(name=wanted.name, role=wanted.role, created_at=now, revoked_at=None, key=key)


@router.delete("/keys/{name}", responses=_ABSENT)
def revoke_key(name: _Name, site: Here, person: Admin) -> KeyFacts:
    """End a key for good."""
    now = site.clock()
    with site.database.write() as session:
        try:
            found = people.revoke_key(session, name, now)
        except PeopleError as fault:
            raise HTTPException(404, str(fault)) from None
        auditlog.append(session, person.name, "key revoked", f"key {name}", now=now)
        return _key(found)


@router.get("/audit-log")
def audit_log(
    site: Here,
    person: Admin,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[LogEntry]:
    """Entries with numbers above ``after``, the oldest first."""
    wanted = select(AuditEntry).where(AuditEntry.id > after).order_by(AuditEntry.id).limit(limit)
    with site.database.read() as session:
        return [
            LogEntry(
                id=each.id, at=each.at, actor=each.actor, action=each.action, subject=each.subject,
                detail=each.detail, hash=each.hash,
            )
            for each in session.scalars(wanted)
        ]  # fmt: skip


@router.get("/audit-log/verify")
def verify_log(
    site: Here, person: Admin, head: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None
) -> LogVerdict:
    """Walk the chain. ``head``: a hash that was noted earlier and must still be there."""
    with site.database.read() as session:
        found = auditlog.verify(session, head)
    return LogVerdict(holds=found.holds, entries=found.entries, head=found.head, fault=found.fault)


def _user(user: User) -> UserFacts:
    return UserFacts(
        name=user.name,
        role=Role(user.role),
        active=user.active,
        created_at=user.created_at,
        failures=user.failures,
    )


def _key(key: ApiKey) -> KeyFacts:
    return KeyFacts(name=key.name, role=Role(key.role), created_at=key.created_at, revoked_at=key.revoked_at)
