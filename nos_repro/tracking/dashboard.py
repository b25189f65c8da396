"""The dashboard of a study or a search as code: saved workspaces and a report of W&B.

wandb-workspaces checks types and fields when the objects are made, without a network. It does not
notice a misspelt metric, so all names come from `tracking/metrics.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.schema import Study
from nos_repro.search.settings import Search
from nos_repro.tracking.connection import check_name, import_wandb, project, wandb_mode

NOBODY = "ENTITY"
"""Placeholder in the printed text for the entity, which only a login can tell."""

RANDOM = ("id", "__id__")
"""Fields that are random in every call; the printed text omits them."""


class PushError(NosError):
    """W&B did not accept a dashboard."""

    status = 1


@dataclass(frozen=True)
class Dashboard:
    """The dashboard of one study or search at one scale, in a ``project`` of W&B."""

    of: Study | Search
    entity: str = ""
    project: str = ""

    def __post_init__(self) -> None:
        check_name("--entity", self.entity)
        check_name("--project", self.project)

    @property
    def heading(self) -> str:
        """`dashboard of table2, scale small, for W&B's project nos_repro`."""
        where = "/".join(filter(None, (self.entity, self.project or project())))
        return f"dashboard of {self._name}, scale {self.of.scale}, for W&B's project {where}"

    def make(self) -> tuple[list[Any], Any]:
        """The workspaces and the report, checked by wandb-workspaces."""
        from nos_repro.tracking.panels import wr, ws

        where = {"entity": self.entity or NOBODY, "project": self.project or project()}
        workspaces = [
            ws.Workspace(
                name=view.title,
                sections=[
                    ws.Section(name=name, panels=panels, is_open=True)
                    for name, panels in view.sections.items()
                ],
                settings=ws.WorkspaceSettings(max_runs=1000),
                runset_settings=ws.RunsetSettings(
                    filters=view.filters, pinned_columns=view.columns
                ),
                **where,
            )
            for view in self._views()
        ]
        blocks: list[Any] = [wr.P(self.of.claim), wr.P(self.of.note)]
        for view in self._views():
            runs = wr.Runset(name=view.title, filters=view.filters)
            blocks += [wr.H2(view.title), wr.P(view.says)]
            for name, panels in view.sections.items():
                blocks += [wr.H3(name), wr.PanelGrid(runsets=[runs], panels=panels)]
        title = f"{self._name}, scale {self.of.scale}: {self.of.source}"
        return workspaces, wr.Report(title=title[:128], blocks=blocks, width="fluid", **where)

    @property
    def _name(self) -> str:
        return self.of.study if isinstance(self.of, Study) else self.of.search

    def _views(self) -> list[Any]:
        """New views for each use, since a panel remembers its position."""
        from nos_repro.tracking.panels import search_views, study_views

        return study_views(self.of) if isinstance(self.of, Study) else search_views(self.of)

    def text(self) -> str:
        """What `push` would save, as JSON; always the same text for the same study."""
        workspaces, report = self.make()
        specified = {
            "workspaces": [_specified(workspace) for workspace in workspaces],
            "report": _specified(report),
        }
        return json.dumps(specified, indent=1, ensure_ascii=False) + "\n"

    def push(self) -> list[str]:
        """Saves everything online as new views; returns their addresses.

        Raises ConfigError if nobody is logged in or no entity is known, PushError if W&B does not
        accept it.
        """
        if wandb_mode("auto") != "online":
            raise ConfigError(
                "--push saves the dashboard online, but you are not logged in to W&B (or it is set"
                " to offline)\n  run `wandb login` and try again; without --push it is printed"
            )
        wandb = import_wandb()
        try:
            entity = self.entity or wandb.Api().default_entity
            if not entity:
                raise ConfigError(
                    "--push saves the dashboard for a W&B entity, but this login has no default\n"
                    "  name one: --entity NAME (a user or a team)"
                )
            workspaces, report = Dashboard(self.of, entity, self.project).make()
            # the report first: it creates the project if needed
            return [saved.save().url for saved in (report, *workspaces)]
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 (the client's, the library's, the network's)
            raise PushError(f"W&B did not accept the dashboard: {error}") from None


def _specified(made: Any) -> Any:
    """What is sent to W&B of a workspace or report, without its random fields."""
    plain = json.loads(made._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return _without_random(plain)


def _without_random(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: _without_random(value) for k, value in values.items() if k not in RANDOM}
    return [_without_random(value) for value in values] if isinstance(values, list) else values
