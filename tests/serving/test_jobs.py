"""Jobs: taken by one, done once, given up after their tries."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

from sqlalchemy import select

from carina.serving import jobs
from carina.serving.database import Database
from carina.serving.schema import Job, JobState
from tests.serving.worklists import NOON, add_film, add_study

LEASE = timedelta(seconds=60)


def fill(database: Database, films: int) -> None:
    with database.write() as session:
        add_study(session, films=films)


def states(database: Database) -> Counter[str]:
    with database.read() as session:
        return Counter(str(state) for state in session.scalars(select(Job.state)))


def test_a_job_is_taken_by_one_worker_and_finished_by_nobody_else(database: Database) -> None:
    fill(database, 1)
    with database.write() as session:
        (job,) = jobs.claim(session, "a", "score", LEASE, NOON)
    with database.write() as session:
        assert jobs.claim(session, "b", "score", LEASE, NOON) == []
        assert not jobs.finish(session, job, "b")
        assert jobs.finish(session, job, "a")
        assert not jobs.finish(session, job, "a")
    assert states(database) == {"done": 1}


def test_four_workers_take_400_jobs_none_twice_and_none_is_lost(database: Database) -> None:
    fill(database, 400)
    taken: list[int] = []
    faults: list[BaseException] = []

    def work() -> None:
        name = jobs.worker_name()
        try:
            while True:
                with database.write() as session:
                    mine = jobs.claim(session, name, "score", LEASE, NOON, count=5)
                if not mine:
                    return
                with database.write() as session:
                    taken.extend(job.id for job in mine if jobs.finish(session, job, name))
        except BaseException as fault:
            faults.append(fault)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert faults == []
    assert len(taken) == len(set(taken)) == 400
    assert states(database) == {"done": 400}


def test_the_most_pressing_comes_first_then_what_waits_longest(database: Database) -> None:
    with database.write() as session:
        late = add_study(session, at=NOON + timedelta(seconds=5))
        early = add_study(session, at=NOON)
        pressing = add_study(session, at=NOON + timedelta(seconds=9))
        assert jobs.hurry(session, pressing.id) == 1
        later = NOON + timedelta(minutes=1)
        taken = [
            session.get_one(Job, job.id).instance_id
            for _ in range(3)
            for job in jobs.claim(session, "a", "score", LEASE, later)
        ]
        films = [study.series[0].instances[0].id for study in (pressing, early, late)]
    assert taken == films


def test_a_job_whose_time_has_not_come_is_left(database: Database) -> None:
    fill(database, 1)
    with database.write() as session:
        (job,) = jobs.claim(session, "a", "score", LEASE, NOON)
        assert jobs.fail(session, job, "a", "odd", NOON, 2, timedelta(seconds=5)) is JobState.WAITING
    with database.write() as session:
        assert jobs.claim(session, "a", "score", LEASE, NOON + timedelta(seconds=4)) == []
        assert len(jobs.claim(session, "a", "score", LEASE, NOON + timedelta(seconds=6))) == 1


def test_a_job_is_dead_after_its_last_try(database: Database) -> None:
    fill(database, 1)
    found = []
    for minute in range(2):
        now = NOON + timedelta(minutes=minute)
        with database.write() as session:
            (job,) = jobs.claim(session, "a", "score", LEASE, now)
            found.append(jobs.fail(session, job, "a", "odd", now, 2, timedelta(0)))
    assert found == [JobState.WAITING, JobState.DEAD]
    with database.write() as session:
        assert jobs.claim(session, "a", "score", LEASE, NOON + timedelta(days=1)) == []


def test_the_job_of_a_worker_that_died_comes_back_when_its_lease_ends(database: Database) -> None:
    fill(database, 1)
    with database.write() as session:
        (lost,) = jobs.claim(session, "a", "score", LEASE, NOON)
    with database.write() as session:
        assert jobs.recover(session, "score", 2, NOON + timedelta(seconds=59)) == []
        assert jobs.claim(session, "b", "score", LEASE, NOON + timedelta(seconds=59)) == []
    later = NOON + timedelta(seconds=61)
    with database.write() as session:
        assert jobs.recover(session, "score", 2, later) == []
        (mine,) = jobs.claim(session, "b", "score", LEASE, later)
        assert mine.id == lost.id
    with database.write() as session:
        assert not jobs.finish(session, lost, "a")  # it was not dead, only slow: its result must not count
        assert jobs.finish(session, mine, "b")


def test_who_renews_its_lease_keeps_its_job(database: Database) -> None:
    fill(database, 2)
    with database.write() as session:
        mine = jobs.claim(session, "a", "score", LEASE, NOON, count=2)
        assert jobs.renew(session, [job.id for job in mine], "a", NOON + timedelta(minutes=5)) == 2
        assert jobs.renew(session, [job.id for job in mine], "b", NOON + timedelta(hours=5)) == 0
    with database.write() as session:
        jobs.recover(session, "score", 2, NOON + timedelta(minutes=4))
        assert jobs.claim(session, "b", "score", LEASE, NOON + timedelta(minutes=4)) == []


def test_a_job_that_kills_its_workers_takes_no_other_with_it(database: Database) -> None:
    """Five films, one of which ends whoever begins it: four are done, one is dead, two workers died."""
    fill(database, 5)
    with database.read() as session:
        poisoned = sorted(session.scalars(select(Job.id)))[2]
    now, deaths, dead = NOON, 0, []
    for _ in range(20):
        with database.write() as session:
            dead += jobs.recover(session, "score", 2, now)
            name = jobs.worker_name()
            mine = jobs.claim(session, name, "score", LEASE, now, count=5)
        if any(job.id == poisoned for job in mine):
            deaths += 1
        else:
            with database.write() as session:
                for job in mine:
                    jobs.finish(session, job, name)
        now += timedelta(seconds=61)
    assert states(database) == {"done": 4, "dead": 1}
    assert [job.id for job in dead] == [poisoned]
    assert deaths == 2


def test_jobs_that_are_given_back_lose_no_try(database: Database) -> None:
    fill(database, 3)
    with database.write() as session:
        jobs.claim(session, "a", "score", LEASE, NOON, count=2)
        assert jobs.release(session, "a") == 2
    with database.write() as session:
        assert [job.attempts for job in jobs.claim(session, "b", "score", LEASE, NOON, count=3)] == [1, 1, 1]


def test_jobs_of_processes_that_are_no_more_are_free_at_once(database: Database) -> None:
    fill(database, 3)
    mine = jobs.worker_name()
    host, pid, process, number = mine.rsplit(":", 3)
    names = [mine, f"{host}:{pid}:000000:{number}", f"{host}:4194999:{process}:{number}"]
    with database.write() as session:
        for name in names:
            jobs.claim(session, name, "score", LEASE, NOON)
    with database.write() as session:
        assert jobs.orphaned(session, NOON) == 2  # not that of this very process
        jobs.recover(session, "score", 2, NOON)
    assert states(database) == {"taken": 1, "waiting": 2}


def test_a_film_can_be_scored_once_more_with_all_its_tries(database: Database) -> None:
    fill(database, 1)
    with database.write() as session:
        (job,) = jobs.claim(session, "a", "score", LEASE, NOON)
        jobs.finish(session, job, "a")
        add_film(session, add_study(session))
        assert jobs.again(session, [job.instance_id], NOON) == 1
    with database.write() as session:
        (once_more,) = jobs.claim(session, "a", "score", LEASE, NOON)
        assert (once_more.id, once_more.attempts) == (job.id, 1)


def test_a_clock_that_was_set_back_lets_no_film_wait(database: Database) -> None:
    """Films came, one was tried and one was taken, while the clock was a day ahead; then it was put right."""
    ahead = NOON + timedelta(days=1)
    with database.write() as session:
        add_study(session, films=3, at=ahead)
        tried, taken = jobs.claim(session, "a", "score", LEASE, ahead, count=2)
        assert jobs.fail(session, tried, "a", "odd", ahead, 2, timedelta(seconds=5)) is JobState.WAITING
    with database.read() as session:
        assert jobs.waiting(session, "score", NOON)
        assert jobs.overdue(session, "score", NOON)
    with database.write() as session:
        assert jobs.recover(session, "score", 2, NOON) == []
        found = [job.id for _ in range(3) for job in jobs.claim(session, "b", "score", LEASE, NOON)]
    assert len(found) == len(set(found)) == 3
    assert {tried.id, taken.id} <= set(found)


def test_a_film_that_another_machine_entered_by_its_clock_is_taken_at_once(database: Database) -> None:
    with database.write() as session:
        add_study(session, at=NOON + timedelta(minutes=3))
        assert len(jobs.claim(session, "a", "score", LEASE, NOON)) == 1
