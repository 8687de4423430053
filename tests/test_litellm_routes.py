"""What of LiteLLM's calls reach a routed group, for each kind of call that a release knows.

A release that adds a kind fails here: find out by running it where it keeps tenant and text
(``litellm_erp/proxy/litellm_request.py``, docs/design/003-proxy-hook.md), and write it down.
"""

from typing import get_args

from litellm.proxy.route_llm_request import ROUTE_ENDPOINT_MAPPING, RouteType

# A prompt decides; tests/test_proxy_followed.py asks each of them, and /v1/responses for its relatives.
BY_PROMPT = {
    "acompletion",
    "atext_completion",
    "aresponses",
    "acompact_responses",
    "acreate_interaction",
    "anthropic_messages",
    "agenerate_content",
    "agenerate_content_stream",
}
# The group's means and costs decide: there is no prompt, or none that was trained on.
BY_MEANS = {
    "_arealtime",
    "_aresponses_websocket",
    "acreate_container",
    "acreate_realtime_client_secret",
    "acreate_realtime_transcription_session",
    "acreate_realtime_translation_client_secret",
    "adecisions",
    "aembedding",
    "aextraction",
    "aimage_edit",
    "aimage_generation",
    "alist_containers",
    "amoderation",
    "aocr",
    "arealtime_calls",
    "arealtime_translation_calls",
    "arerank",
    "aspeech",
    "asystemone",
    "atranscription",
    "avector_store_create",
    "avideo_edit",
    "avideo_extension",
    "avideo_generation",
    "avideo_remix",
}
# LiteLLM asks no callback: they name a deployment, an object that belongs to one, or nothing that is a model group.
NEVER_ASKED = {
    *("acancel_batch", "acreate_batch", "alist_batches", "aretrieve_batch"),
    *("acancel_responses", "acreate_response_reply", "adelete_responses", "aget_responses", "alist_input_items"),
    *("acancel_interaction", "adelete_interaction", "aget_interaction"),
    *("acancel_eval", "acreate_eval", "adelete_eval", "aget_eval", "alist_evals", "aupdate_eval"),
    *("acancel_run", "acreate_run", "adelete_run", "aget_run", "alist_runs"),
    *("acreate_agent", "adelete_agent", "aget_agent", "alist_agents", "alist_agent_versions", "asend_message"),
    *("acreate_skill", "adelete_skill", "aget_skill", "alist_skills"),
    *("adelete_container", "aretrieve_container", "aupload_container_file", "adelete_container_file"),
    *("alist_container_files", "aretrieve_container_file", "aretrieve_container_file_content"),
    *("afile_content", "afile_delete", "afile_retrieve"),
    *("acancel_fine_tuning_job", "acreate_fine_tuning_job", "alist_fine_tuning_jobs", "aretrieve_fine_tuning_job"),
    *("avector_store_delete", "avector_store_list", "avector_store_retrieve", "avector_store_search"),
    *("avector_store_update", "avector_store_file_content", "avector_store_file_create"),
    *("avector_store_file_delete", "avector_store_file_list", "avector_store_file_retrieve"),
    *("avector_store_file_update", "avideo_content", "avideo_create_character", "avideo_get_character"),
    *("avideo_list", "avideo_status", "aingest", "allm_passthrough_route", "asearch", "call_mcp_tool"),
}


def test_every_kind_of_call_that_this_release_knows_is_accounted_for():
    known = {*get_args(RouteType), *ROUTE_ENDPOINT_MAPPING}
    assert known - BY_PROMPT - BY_MEANS - NEVER_ASKED == set()


def test_no_kind_of_call_is_accounted_for_twice():
    assert not BY_PROMPT & BY_MEANS
    assert not NEVER_ASKED & (BY_PROMPT | BY_MEANS)
