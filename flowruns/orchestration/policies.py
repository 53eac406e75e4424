"""The rules in order. `docs/orchestration.md` explains each."""

from __future__ import annotations

from flowruns.orchestration import flow_rules as flow
from flowruns.orchestration import task_rules as task
from flowruns.orchestration.transition import Rule

CORE_FLOW = (
    flow.keep_lease,
    flow.release_deployment_slot,
    flow.refuse_repeated_transition,
    flow.settle_terminal_states,
    flow.cancel_one_way,
    flow.cancel_at_once,
    flow.refuse_second_pending,
    flow.check_lease,
    flow.keep_slot_of_old_client,
    flow.mark_late_once,
    flow.pause_running_runs,
    flow.leave_pause,
    flow.keep_scheduled_time,
    flow.wait_for_scheduled_time,
    flow.retry_failed_runs,
    flow.take_deployment_slot,
)
# Forced states, initial states, services.
MINIMAL_FLOW = (flow.keep_lease, flow.release_deployment_slot, flow.protect_persisted_result, flow.cancel_at_once)
LATE_MARKING = (
    flow.keep_lease,
    flow.release_deployment_slot,
    flow.mark_late_once,
    flow.cancel_late_run_of_full_deployment,
)
CORE_TASK = (
    flow.refuse_repeated_transition,
    task.take_cached_state,
    task.settle_terminal_task_states,
    task.run_inside_running_flow,
    task.hold_tag_slots,
    flow.keep_scheduled_time,
    flow.wait_for_scheduled_time,
    task.retry_failed_task_runs,
    task.name_repeated_runs,
    task.count_flow_run,
    task.cache_state,
    task.release_tag_slots,
)
# Deferred task runs, which task workers fetch and run outside of flows.
BACKGROUND_TASK = (
    flow.refuse_second_pending,
    task.take_cached_state,
    task.settle_terminal_task_states,
    flow.keep_scheduled_time,
    task.keep_task_parameters,
    flow.wait_for_scheduled_time,
    task.retry_failed_task_runs,
    task.name_repeated_runs,
    task.count_flow_run,
    task.cache_state,
    task.release_tag_slots,
    task.offer_to_task_workers,
)
MINIMAL_TASK: tuple[Rule, ...] = (task.release_tag_slots,)
