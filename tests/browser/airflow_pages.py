"""Airflow's own pages as a person uses them: log in, the two forms, a run's page, a task's log.

Labels and test ids are those of Airflow 3.3. Every step waits for what the page shows, never for a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect

PAGE_MS = 90_000  # two cores shared with the scheduler and its tasks
TASK_ENDED = {"Success", "Failed", "Upstream Failed", "Skipped", "Removed"}
RUN_MS = 900_000  # on a busy machine the first run compiles its kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class Airflow:
    """A browser page on a stack; `pictures` is where screenshots go."""

    page: Page
    url: str
    pictures: Path

    def shot(self, name: str) -> None:
        """Keep a picture of the page."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.pictures / f"{name}.png")

    # -- login

    def log_in(self, user: str, password: str) -> None:
        """Fill in the login page, from whichever page asks for it."""
        self.page.goto(f"{self.url}/dags")
        self.page.wait_for_url("**/auth/login?next=*")
        self.page.get_by_label("Username").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def arrives(self) -> None:
        """Wait for the list of DAGs, to which the login leads."""
        self.page.wait_for_url("**/dags")
        self.page.get_by_role("link", name="trading_day", exact=True).wait_for()

    # -- one DAG

    def open_dag(self, dag_id: str) -> None:
        self.page.goto(f"{self.url}/dags/{dag_id}")
        self.page.get_by_test_id("trigger-dag-button").wait_for()

    def docs(self) -> str:
        """Return what 'Dag Docs' shows, and close it."""
        self.page.get_by_role("button", name="Dag Docs").click()
        dialog = self.page.get_by_role("dialog").filter(has_text="Dag Documentation")
        dialog.locator("li").first.wait_for()
        text = dialog.inner_text()
        self.page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        return text

    def unpause(self) -> None:
        """Switch the DAG of the open page on."""
        switch = self.page.get_by_test_id("toggle-pause").first
        expect(switch.locator("input")).not_to_be_checked()
        switch.click()
        expect(switch.locator("input")).to_be_checked()

    # -- the forms

    def form(self) -> Locator:
        """Open the trigger form of the DAG whose page is open."""
        self.page.get_by_test_id("trigger-dag-button").click()
        dialog = self.page.locator("[data-scope=dialog][data-part=content]")
        dialog.locator("#element_session").wait_for()
        return dialog

    def trigger(self, dag_id: str, **fields: str) -> str:
        """Start one run with the form's fields; return the run's id once its page is open."""
        self.open_dag(dag_id)
        dialog = self.form()
        fill(dialog, fields)
        self.shot(f"form_{dag_id}")
        dialog.get_by_test_id("trigger-dag-submit").click()
        self.page.wait_for_url(f"**/dags/{dag_id}/runs/*")
        return self.page.url.rsplit("/", 1)[1]

    def backfill(
        self, dag_id: str, first: str, last: str, *, runs: str, reprocess: str = "Missing Runs", at_once: int = 1,
        send_fields: bool = True, **fields: str,
    ) -> None:  # fmt: skip
        """Fill in the backfill form and send it; Airflow sends the fields only with the override box ticked."""
        self.open_dag(dag_id)
        expect(self.page.get_by_text("Backfill in progress")).to_be_hidden()  # Airflow runs one at a time
        dialog = self.form()
        dialog.get_by_text("Backfill", exact=True).click()
        dialog.get_by_test_id("datetime-input").first.wait_for()
        fill(dialog, fields)
        for index, day in enumerate((first, last)):
            self._pick(dialog, index, day)
        dialog.get_by_text(reprocess, exact=True).click()
        dialog.locator("input[name=max_active_runs]").fill(str(at_once))
        if send_fields:
            dialog.get_by_text("Override parameters on existing runs", exact=True).click()
        expect(dialog.get_by_text(runs)).to_be_visible()
        self.shot(f"backfill_{dag_id}")
        dialog.get_by_role("button", name="Run Backfill").click()
        expect(dialog).to_be_hidden()

    def _pick(self, dialog: Locator, index: int, day: str) -> None:
        dialog.get_by_test_id("datetime-input").nth(index).click()
        calendar = self.page.locator("[data-scope=popover][data-part=content][data-state=open]")
        for placeholder, value in (("YYYY/MM/DD", day.replace("-", "/")), ("HH:mm", "00:00")):
            calendar.get_by_placeholder(placeholder).fill(value)
            calendar.get_by_placeholder(placeholder).press("Enter")
        dialog.get_by_text("Date Range").click()
        expect(calendar).to_be_hidden()

    # -- what became of it

    def run_ends(self, dag_id: str, run_id: str, state: str) -> None:
        """Watch a run's page until it says Success or Failed."""
        self.page.goto(f"{self.url}/dags/{dag_id}/runs/{quote(run_id, safe=':+%')}")
        badge = self.page.get_by_test_id("header-card").get_by_test_id("state-badge")
        expect(badge).to_have_text("Success" if state == "success" else "Failed", timeout=RUN_MS)

    def task_states(self) -> Mapping[str, str]:
        """Return the states of the tasks of an ended run on its page, mapped ones as one.

        The table is drawn anew less often than the badge above it, and on a busy machine it is empty for a moment:
        reload until it has tasks, and none that is under way.
        """
        states: dict[str, str] = {}
        for _ in range(20):
            self.page.reload()
            rows = self.page.get_by_test_id("table-list").locator("tbody tr")
            expect(rows.first).to_be_visible()
            self.page.wait_for_timeout(1000)
            states = {
                row.get_by_test_id("table-cell-task_display_name").inner_text(): row.get_by_test_id(
                    "table-cell-state"
                ).inner_text()
                for row in rows.all()
            }
            if states and set(states.values()) <= TASK_ENDED:
                break
        return states

    # -- what a person is asked

    def required_action(self, about: str) -> Locator:
        """Open the one required action about something, from the page that lists what waits; return its page's body."""
        self.page.goto(f"{self.url}/required_actions?response_received=false")
        asked = self.page.get_by_test_id("table-list").get_by_role("link").filter(has_text=about)
        expect(asked).to_have_count(1)
        asked.click()
        self.page.wait_for_url("**/required_actions")
        expect(self.page.get_by_test_id("hitl-option-Approve")).to_be_visible()
        return self.page.locator("body")

    def answer(self, option: str, reason: str = "") -> None:
        """Answer the open required action by its button."""
        if reason:
            self.page.locator("#element_reason").fill(reason)
        self.page.get_by_test_id(f"hitl-option-{option}").click()

    def failure(self, task_id: str) -> str:
        """Click on a task of the open run's page and return the line of its log that names the error."""
        self.page.get_by_test_id("table-list").get_by_role("link", name=task_id, exact=True).click()
        self.page.wait_for_url(f"**/tasks/{task_id}**")
        said = self.page.locator("[data-testid^=summary-]").filter(has_text="Exception: ").first
        expect(said).to_be_visible()
        expect(self.page.get_by_text("ERROR - Next: ")).to_be_visible()  # a line of its own, not cut off
        self.shot(f"log_{task_id}")
        return said.inner_text()


def fill(dialog: Locator, fields: Mapping[str, str]) -> None:
    """Fill in the form's own fields by their names."""
    for name, value in fields.items():
        dialog.locator(f"#element_{name}").fill(value)
        expect(dialog.locator(f"#element_{name}")).to_have_value(value)
