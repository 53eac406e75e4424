"""Automations, their triggers and actions, as clients send them (contract: events_automations.md, sections 7 to 9)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from deployments.hydration import HydrationError, check_template
from flowruns.states import StateType
from orchestrator.core.wire import EmbeddedBody, NaturalInt, Object, Tags, Text, WireModel

MAX_NESTING = 8
MAX_CHILDREN = 50
MAX_ACTIONS = 50
SHORTEST_PROACTIVE = 10.0


def as_seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


Span = Annotated[float, BeforeValidator(as_seconds), Field(ge=0, le=3.2e9, allow_inf_nan=False)]
Names = Annotated[list[Text], Field(max_length=500)]
Match = dict[str, str | Annotated[list[str], Field(max_length=500)]]


class Posture(StrEnum):
    Reactive = "Reactive"
    Proactive = "Proactive"


class Trigger(WireModel):
    id: UUID = Field(default_factory=uuid4)

    def renewed(self) -> Trigger:
        """The same trigger with a new id, all the way down: what was counted for an older one is not taken over."""
        return self.model_copy(update={"id": uuid4()})

    def walk(self) -> Iterator[Trigger]:
        """This trigger and all below it."""
        yield self


class EventTrigger(Trigger):
    """Fires on events that come, or on events that do not come."""

    type: Literal["event"] = "event"
    match: Match = {}
    match_related: Match | Annotated[list[Match], Field(max_length=100)] = {}
    after: Names = []
    expect: Names = []
    for_each: Names = []
    posture: Posture
    threshold: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    within: Span = 0.0

    @model_validator(mode="before")
    @classmethod
    def reasonable_window(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("posture") == Posture.Proactive:
            if "within" not in value or value["within"] == 0:
                return {**value, "within": SHORTEST_PROACTIVE}
            within = value["within"]
            if isinstance(within, int | float) and 0 < within < SHORTEST_PROACTIVE:
                raise ValueError("The minimum within for Proactive triggers is 10 seconds")
        return value

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=self.within)

    def related_specifications(self) -> list[Match]:
        return self.match_related if isinstance(self.match_related, list) else [self.match_related]


class Composite(Trigger):
    triggers: Annotated[list[AnyTrigger], Field(min_length=1, max_length=MAX_CHILDREN)]
    within: Span | None

    def renewed(self) -> Composite:
        return self.model_copy(update={"id": uuid4(), "triggers": [child.renewed() for child in self.triggers]})

    def walk(self) -> Iterator[Trigger]:
        yield self
        for child in self.triggers:
            yield from child.walk()


class CompoundTrigger(Composite):
    """Fires when so many of its children have fired."""

    type: Literal["compound"] = "compound"
    require: Literal["any", "all"] | int

    @model_validator(mode="after")
    def possible(self) -> CompoundTrigger:
        if isinstance(self.require, int) and not 1 <= self.require <= len(self.triggers):
            raise ValueError("require must be at least 1 and at most the number of triggers")
        return self

    def required(self) -> int:
        if self.require == "any":
            return 1
        return len(self.triggers) if self.require == "all" else int(self.require)


class SequenceTrigger(Composite):
    """Fires when its children have fired in their order."""

    type: Literal["sequence"] = "sequence"


def trigger_type(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("type") or "event")
    return str(getattr(value, "type", "event"))


AnyTrigger = Annotated[
    Annotated[EventTrigger, Tag("event")]
    | Annotated[CompoundTrigger, Tag("compound")]
    | Annotated[SequenceTrigger, Tag("sequence")],
    Discriminator(trigger_type),
]


class Source(StrEnum):
    selected = "selected"
    inferred = "inferred"


class Action(WireModel):
    """What an automation does; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")
    type: str


class Targeted(Action):
    """An action on one object: the one selected by its id, or the one that the event tells of."""

    target: ClassVar[str]
    source: Source = Source.selected

    @model_validator(mode="after")
    def one_or_the_other(self) -> Targeted:
        key = f"{self.target}_id"
        given = getattr(self, key) is not None
        if self.source == Source.selected and not given:
            raise ValueError(f"{key} is required")
        if self.source == Source.inferred and given:
            raise ValueError(f"{key} is not allowed")
        return self

    @property
    def target_id(self) -> UUID | None:
        key: UUID | None = getattr(self, f"{self.target}_id")
        return key


def template(value: str) -> str:
    try:
        check_template(value)
    except HydrationError as error:
        raise ValueError(f"is not a valid template: {error}") from None
    return value


Template = Annotated[str, AfterValidator(template)]


class DoNothing(Action):
    type: Literal["do-nothing"]


class DeploymentAction(Targeted):
    target = "deployment"
    deployment_id: UUID | None = None


class RunDeployment(DeploymentAction):
    type: Literal["run-deployment"]
    parameters: Object | None = None
    job_variables: Object | None = None
    schedule_after: Span = 0.0


class SwitchDeployment(DeploymentAction):
    type: Literal["pause-deployment", "resume-deployment"]


class SwitchWorkQueue(Targeted):
    target = "work_queue"
    type: Literal["pause-work-queue", "resume-work-queue"]
    work_queue_id: UUID | None = None


class SwitchWorkPool(Targeted):
    target = "work_pool"
    type: Literal["pause-work-pool", "resume-work-pool"]
    work_pool_id: UUID | None = None


class SwitchAutomation(Targeted):
    target = "automation"
    type: Literal["pause-automation", "resume-automation"]
    automation_id: UUID | None = None


class FlowRunAction(Action):
    type: Literal["cancel-flow-run", "suspend-flow-run", "resume-flow-run", "delete-flow-run"]


class ChangeFlowRunState(Action):
    type: Literal["change-flow-run-state"]
    state: StateType
    name: Text | None = None
    message: Text | None = None
    force: bool = False


class SendNotification(Action):
    type: Literal["send-notification"]
    block_document_id: UUID
    subject: Template = "Prefect automated notification"
    body: Template


def webhook_payload(value: Any) -> Any:
    if isinstance(value, dict):
        import json

        value = json.dumps(value, indent=2)
    return value


class CallWebhook(Action):
    type: Literal["call-webhook"]
    block_document_id: UUID
    payload: Annotated[Template | None, BeforeValidator(webhook_payload)] = ""


AnyAction = Annotated[
    DoNothing
    | RunDeployment
    | SwitchDeployment
    | SwitchWorkQueue
    | SwitchWorkPool
    | SwitchAutomation
    | FlowRunAction
    | ChangeFlowRunState
    | SendNotification
    | CallWebhook,
    Field(discriminator="type"),
]
Actions = Annotated[list[AnyAction], Field(max_length=MAX_ACTIONS)]


class AutomationCore(WireModel):
    name: Text
    description: Text = ""
    enabled: bool = True
    tags: Tags = []
    trigger: AnyTrigger
    actions: Actions
    actions_on_trigger: Actions = []
    actions_on_resolve: Actions = []

    @model_validator(mode="after")
    def does_not_chase_itself(self) -> AutomationCore:
        if self.enabled:
            check_loops(self.trigger, self.actions)
        return self


class AutomationCreate(AutomationCore):
    owner_resource: Text | None = None


class AutomationSwitch(WireModel):
    enabled: bool = True


class AutomationIds(EmbeddedBody):
    limit: int | None = None
    offset: NaturalInt = 0


# States that every run of a deployment goes through: an automation that runs a deployment on them never ends.
BEGINNINGS = {f"prefect.flow-run.{name}" for name in ("Scheduled", "Pending", "Running", "*")}
ENDLESS = "Running an inferred deployment from a flow run state change event may lead to an infinite loop of flow runs."
ENDLESS_SELECTED = (
    "Running a selected deployment from a flow run state change event may lead to an infinite loop of flow runs. "
    "Please include additional filtering labels on either match or match_related to narrow down which flow runs will trigger it."
)


def check_loops(trigger: Trigger, actions: list[Any]) -> None:
    """Refuse automations whose action brings about the event that fires them."""
    runs = [action for action in actions if isinstance(action, RunDeployment)]
    for event in trigger.walk():
        if not isinstance(event, EventTrigger) or event.posture != Posture.Reactive or not set(event.expect) & BEGINNINGS:
            continue
        if any(action.source == Source.inferred for action in runs):
            raise ValueError(ENDLESS)
        if runs and unfiltered(event.match) and any(map(unfiltered, event.related_specifications())):
            raise ValueError(ENDLESS_SELECTED)


def unfiltered(match: Match) -> bool:
    return match in ({}, {"prefect.resource.id": "prefect.flow-run.*"}, {"prefect.resource.id": ["prefect.flow-run.*"]})


Composite.model_rebuild()
CompoundTrigger.model_rebuild()
SequenceTrigger.model_rebuild()
