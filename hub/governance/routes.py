"""HTTP of policies, approvals and compliance; thin."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from hub.errors import Invalid
from hub.governance.compliance import PERIOD_DAYS
from hub.governance.rendering import Table, as_csv, as_page
from hub.governance.service import KEPT_DAYS, Governance
from hub.inline import style_sources
from topics.fields import Text

AnyRequest = Request[Any, Any, State]
PAGE_POLICY = "default-src 'none'; style-src {styles}; base-uri 'none'; frame-ancestors 'none'"
"""The page has its style with it, and nothing else."""


class ApprovalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """For which segment a release is approved, and why."""

    target_segment: Literal["canary", "early", "general"]
    reason: Text = ""


class PoliciesController(Controller):
    """`/policies`: what no release may do, whatever it would pass by itself."""

    path = "/policies"
    tags = ["governance"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/", opt={"access": "viewer"}, sync_to_thread=True)
    def index(self, governance: NamedDependency[Governance]) -> dict[str, Any]:
        """List the policies in force."""
        return {"items": governance.all()}

    @post("/", opt={"access": "admin"}, sync_to_thread=True)
    def add(
        self, request: AnyRequest, governance: NamedDependency[Governance], data: JSONBody[dict[str, Any]]
    ) -> dict[str, Any]:
        """Put a policy in force."""
        return governance.add(data, request.state.caller)

    @delete("/{policy_id:str}", opt={"access": "admin"}, sync_to_thread=True)
    def remove(
        self,
        request: AnyRequest,
        governance: NamedDependency[Governance],
        policy_id: FromPath[str],
        reason: FromQuery[str] = "",
    ) -> None:
        """Take a policy out of force, for the reason given."""
        governance.remove(policy_id, _reason(reason), request.state.caller)


class ApprovalsController(Controller):
    """`/releases/{releaseId}/approvals`: the second person."""

    path = "/releases/{release_id:str}/approvals"
    tags = ["governance"]  # noqa: RUF012

    @get("/", opt={"access": "viewer"}, sync_to_thread=True)
    def index(self, governance: NamedDependency[Governance], release_id: FromPath[str]) -> dict[str, Any]:
        """List who approved a release, and for which segment."""
        return {"release": release_id, "items": governance.approvals(release_id)}

    @post("/", opt={"access": "release-manager"}, sync_to_thread=True)
    def approve(
        self,
        request: AnyRequest,
        governance: NamedDependency[Governance],
        release_id: FromPath[str],
        data: JSONBody[ApprovalRequest],
    ) -> dict[str, Any]:
        """Vouch for a release in a segment."""
        return governance.approve(release_id, data.target_segment, data.reason, request.state.caller)

    @delete("/{segment:str}", opt={"access": "release-manager"}, sync_to_thread=True)
    def withdraw(
        self,
        request: AnyRequest,
        governance: NamedDependency[Governance],
        release_id: FromPath[str],
        segment: FromPath[str],
    ) -> None:
        """Take one's own approval back."""
        governance.withdraw(release_id, segment, request.state.caller)


class ComplianceController(Controller):
    """`/compliance`: whether what was demanded holds."""

    path = "/compliance"
    opt = {"access": "viewer"}  # noqa: RUF012
    tags = ["governance"]  # noqa: RUF012

    @get("/report", sync_to_thread=True)
    def report(
        self,
        governance: NamedDependency[Governance],
        days: FromQuery[int] = PERIOD_DAYS,
        format: FromQuery[Literal["json", "csv", "html"]] = "json",
        table: FromQuery[Table] = "groups",
    ) -> Response[Any]:
        """The report of now as JSON, as one of its tables in CSV, or as a page to print."""
        found = governance.compliance(_days(days))
        headers = {"Cache-Control": "no-store"}
        if format == "csv":
            headers["Content-Disposition"] = f'attachment; filename="compliance-{table}.csv"'
            return Response(as_csv(found, table), media_type="text/csv", headers=headers)
        if format == "html":
            page = as_page(found)
            headers["Content-Security-Policy"] = PAGE_POLICY.format(styles=style_sources(page))
            return Response(page, media_type="text/html", headers=headers)
        return Response(found, headers=headers)

    @get("/history", sync_to_thread=True)
    def history(self, governance: NamedDependency[Governance], days: FromQuery[int] = 90) -> dict[str, Any]:
        """What the report counted on each of the last days."""
        return {"items": governance.days(_days(days))}


def _reason(text: str) -> str:
    # In a query the framework leaves bounds of text out.
    try:
        return msgspec.convert(text, Text)
    except msgspec.ValidationError as error:
        raise Invalid(f"reason: {error}.", rule="reason") from None


def _days(days: int) -> int:
    if not 1 <= days <= KEPT_DAYS:
        raise Invalid(f"days must be 1 to {KEPT_DAYS}.", rule="days")
    return days
