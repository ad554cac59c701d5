"""People and programs: who they are, what they may do, and how they show it.

Passwords are kept as argon2id hashes; of a session and of an API key only the SHA-256 is kept, so that a
stolen database signs nobody in. Every function works in the transaction it is given and takes the time
from outside. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from carina.errors import PeopleError
from carina.serving.schema import ApiKey, User, WebSession

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LEAST_PASSWORD, MOST_PASSWORD = 12, 256  # characters
KEY_PREFIX = "carina_"
_NAME = re.compile(r"[\w][\w.@-]{0,63}")
_SEEN = timedelta(minutes=1)  # how finely it is kept when a session was last used


class Role(StrEnum):
    """What somebody may do; each may do what the one before may.

    A viewer looks, a reader also says what they saw and sends films, an admin also lets people in.
    """

    VIEWER = "viewer"
    READER = "reader"
    ADMIN = "admin"

    def may(self, needed: Role) -> bool:
        """Whether this role is at least ``needed``."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has shown who they are. ``csrf`` is None for programs, which send no cookies."""

    name: str
    role: Role
    csrf: str | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session: ``token`` goes into the cookie and is known to nobody else."""

    person: Person
    token: str
    expires_at: datetime


def add_user(session: Session, name: str, password: str, role: Role, now: datetime) -> User:
    """A new user. Raises :class:`~carina.errors.PeopleError` for a bad name or password, or a known name."""
    name = account(name)
    if not _NAME.fullmatch(name):
        raise PeopleError(
            f"{name!r}: a user's name is letters, digits and . _ @ -, at most 64; choose another"
        )
    if session.scalar(select(User).where(User.name == name)) is not None:
        raise PeopleError(f"{name}: there is such a user already; set a password with: carina user password")
    user = User(name=name, role=role, password=hashed(name, password), created_at=now)
    session.add(user)
    session.flush()
    return user


def find_user(session: Session, name: str) -> User:
    """The user of this name. Raises :class:`~carina.errors.PeopleError` where there is none."""
    user = session.scalar(select(User).where(User.name == account(name)))
    if user is None:
        raise PeopleError(f"{name}: there is no such user; carina user list shows all")
    return user


def set_password(session: Session, name: str, password: str) -> User:
    """A new password; the user is signed out everywhere, and not locked out any more."""
    user = find_user(session, name)
    user.password = hashed(user.name, password)
    user.failures, user.locked_until = 0, None
    sign_out_everywhere(session, user)
    return user


def set_role(session: Session, name: str, role: Role) -> User:
    """Another role. The last admin who can sign in stays one: ``PeopleError``."""
    user = find_user(session, name)
    if role is not Role.ADMIN:
        _check_not_last(session, user)
    user.role = role
    return user


def set_active(session: Session, name: str, active: bool) -> User:
    """Let a user in again, or keep them out from now on. Users are never deleted: the log names them."""
    user = find_user(session, name)
    if not active:
        _check_not_last(session, user)
        sign_out_everywhere(session, user)
    user.active = active
    return user


def users(session: Session) -> list[User]:
    """All users by name."""
    return list(session.scalars(select(User).order_by(User.name)))


def begin_session(session: Session, user: User, now: datetime, hours: float) -> SignedIn:
    """A new session of a user whose password was right; sessions that have ended are swept away."""
    session.execute(delete(WebSession).where(WebSession.expires_at <= now))
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    expires = now + timedelta(hours=hours)
    session.add(
        WebSession(
            token_sha256=sha256(token),
            csrf=csrf,
            user_id=user.id,
            created_at=now,
            seen_at=now,
            expires_at=expires,
        )
    )
    return SignedIn(Person(user.name, Role(user.role), csrf), token, expires)


def of_session(session: Session, token: str, now: datetime) -> Person | None:
    """Whose session this is; None for an unknown or ended one, and for a user who is kept out."""
    row = session.execute(
        select(WebSession, User)
        .join(User, User.id == WebSession.user_id)
        .where(WebSession.token_sha256 == sha256(token))
    ).first()
    if row is None or row[0].expires_at <= now or not row[1].active:
        return None
    return Person(row[1].name, Role(row[1].role), row[0].csrf)


def is_stale(session: Session, token: str, now: datetime) -> bool:
    """Whether it is time to note that a session was used; to the minute is enough."""
    at = session.scalar(select(WebSession.seen_at).where(WebSession.token_sha256 == sha256(token)))
    return at is not None and now - at >= _SEEN


def seen(session: Session, token: str, now: datetime) -> None:
    """Note that a session was used."""
    session.execute(update(WebSession).where(WebSession.token_sha256 == sha256(token)).values(seen_at=now))


def sign_out(session: Session, token: str) -> None:
    """End one session."""
    session.execute(delete(WebSession).where(WebSession.token_sha256 == sha256(token)))


def sign_out_everywhere(session: Session, user: User) -> None:
    """End all sessions of a user."""
    session.execute(delete(WebSession).where(WebSession.user_id == user.id))


def add_key(session: Session, name: str, role: Role, now: datetime) -> str:
    """A new key for a program: shown this once, kept as its hash. ``PeopleError`` for a known name."""
    if not _NAME.fullmatch(name):
        raise PeopleError(
            f"{name!r}: a key's name is letters, digits and . _ @ -, at most 64; choose another"
        )
    if session.scalar(select(ApiKey).where(ApiKey.name == name)) is not None:
        raise PeopleError(f"{name}: there is, or was, a key of this name; choose another")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    session.add(ApiKey(name=name, key_sha256=sha256(key), role=role, created_at=now))
    return key


def revoke_key(session: Session, name: str, now: datetime) -> ApiKey:
    """End a key for good. ``PeopleError`` where there is none of this name."""
    key = session.scalar(select(ApiKey).where(ApiKey.name == name))
    if key is None:
        raise PeopleError(f"{name}: there is no such key; carina key list shows all")
    key.revoked_at = key.revoked_at or now
    return key


def keys(session: Session) -> list[ApiKey]:
    """All keys by name, the revoked ones too."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.name)))


def of_key(session: Session, key: str) -> Person | None:
    """Whose key this is; None for an unknown or revoked one."""
    found = session.scalar(select(ApiKey).where(ApiKey.key_sha256 == sha256(key)))
    if found is None or found.revoked_at is not None:
        return None
    return Person(f"key:{found.name}", Role(found.role))


def account(name: str) -> str:
    """A name as it is kept: compatibility forms folded, small letters."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def hashed(name: str, password: str) -> str:
    """The argon2id hash of a password. ``PeopleError`` for one that is too short, too long or the name."""
    plain = _plain(password)
    if not LEAST_PASSWORD <= len(plain) <= MOST_PASSWORD:
        raise PeopleError(
            f"{name}: a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters; a sentence is a good one"
        )
    if account(name) in plain.casefold() and len(plain) < len(name) + LEAST_PASSWORD:
        raise PeopleError(f"{name}: the password is hardly more than the name; choose another")
    return _hasher().hash(plain)


def is_password(kept: str | None, password: str) -> bool:
    """Whether this is the password. Without ``kept`` (no such user) it takes as long, and is not."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        right = _hasher().verify(kept or _nobody(), _plain(password)[: MOST_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return False
    return right and kept is not None


def sha256(secret: str) -> str:
    """64 hex digits: all that is kept of a token of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _check_not_last(session: Session, user: User) -> None:
    admins = select(User).where(User.role == Role.ADMIN, User.active, User.id != user.id)
    if user.role == Role.ADMIN and user.active and session.scalar(admins) is None:
        raise PeopleError(f"{user.name}: is the only admin; make another one first")


def _plain(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()  # argon2id, RFC 9106's second recommendation: 64 MiB, 3 passes, 4 lanes


@cache
def _nobody() -> str:
    return _hasher().hash(secrets.token_urlsafe(32))
