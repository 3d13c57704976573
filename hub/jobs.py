"""Periodic work of the leader. The only place that knows APScheduler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

TICK_S = 1
WATCH_S = 5
THIN_S = 900
REFRESH_S = 3_600
RENEW_S = 86_400
SOON_S = 60


def schedule(
    *,
    tick: Callable[[], object],
    watch: Callable[[], object],
    thin: Callable[[], object],
    refresh: Callable[[], object],
    renew: Callable[[], object],
) -> AsyncIOScheduler:
    """Return a scheduler, not started: `tick` every second (rollouts are judged), `watch` (who fell silent) every five,
    `thin` (what is kept for a time only) every quarter of an hour, `refresh` of manifests every hour, `renew` of
    certificates every day.

    Work that is late or overlaps runs once; functions are called in worker threads. `refresh` is due a minute
    after the start as well: by the hour only, a hub that is started again more often would never come to it.
    """
    scheduler = AsyncIOScheduler(
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    )
    scheduler.add_job(tick, IntervalTrigger(seconds=TICK_S), id="tick")
    scheduler.add_job(watch, IntervalTrigger(seconds=WATCH_S), id="watch")
    scheduler.add_job(thin, IntervalTrigger(seconds=THIN_S), id="thin")
    soon = datetime.now(UTC) + timedelta(seconds=SOON_S)
    scheduler.add_job(refresh, IntervalTrigger(seconds=REFRESH_S), id="refresh-manifests", next_run_time=soon)
    scheduler.add_job(renew, IntervalTrigger(seconds=RENEW_S), id="renew-certificates")
    return scheduler
