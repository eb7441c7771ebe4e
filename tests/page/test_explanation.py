"""An explanation as the API tells it, as the page says it; and what it says where there is none."""

from __future__ import annotations

import urllib.error
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.page.reader import opened, texts, wait
from tests.page.running import told

pytestmark = pytest.mark.xdist_group("chromium")

POD = {
    "uid": "u",
    "namespace": "vision",
    "pod": "virt-launcher-vm-7",
    "vm": "vm-7",
    "since": "2026-01-01T00:00:00Z",
    "wanted": ["nvidia.com/NVIDIA_H100XM-3-40C"],
    "reasons": ["vGPU: no free placement for nvidia.com/NVIDIA_H100XM-3-40C"],
}

READ = """
const why = document.querySelector(`[data-uid='${arguments[0]}'] .why`);
if (!why?.querySelector(".explanation")) return null;
const texts = (selector) => [...why.querySelectorAll(selector)].map((each) => each.innerText);
return {
  reasons: texts(":scope > ul > li, :scope > p"),
  sentences: texts(".explanation > p"),
  groups: texts("dt"),
};
"""
"""What is said of the opened pod of a UID, all of one moment; null while it is not explained."""


def said(driver: Any, explanation: dict[str, Any]) -> str:
    """Return the text of what the page makes of an explanation."""
    return str(
        driver.execute_async_script(
            "const [told, done] = arguments;"
            "import('/page/explanation.js').then(({ rendered }) => {"
            "  const element = rendered(told); document.body.append(element);"
            "  done(element.innerText); element.remove(); });",
            {"sentences": [], "groups": [], **explanation},
        )
    )


def opened_pod(driver: Any, answer: str) -> str:
    """Open a pod that waits, let *answer* (JavaScript) be the answer, and return what is said."""
    return str(
        driver.execute_async_script(
            """
            const [pod, done] = arguments;
            const asked = window.fetch;
            window.fetch = (url, ...rest) =>
              String(url).startsWith("api/v1/explain?") ? ANSWER : asked(url, ...rest);
            import("/page/pending.js").then(({ PendingPods }) => {
              const section = document.createElement("section");
              section.append(document.createElement("h2"), document.createElement("div"));
              section.lastChild.className = "body";
              document.body.append(section);
              new PendingPods(section, new URLSearchParams()).show([pod], 1, 1);
              const why = section.querySelector(".why");
              new MutationObserver(() => {
                if (!why.querySelector(".explanation, .bad")) return;
                done(why.innerText);
                section.remove();
                window.fetch = asked;
              }).observe(why, { childList: true });
              section.querySelector("details").open = true;
            });
            """.replace("ANSWER", answer),
            POD,
        )
    )


def test_a_pod_that_waits_is_explained_as_the_api_explains_it(driver: Any, page: str) -> None:
    opened(driver, page)
    wait(driver, lambda d: texts(d, "#pending details"), 40)

    def explained(driver: Any) -> Any:
        """Open the first pod anew, until what is read is what the API says around that moment."""
        uid = driver.execute_script(
            "const pod = document.querySelector('#pending details');"
            "if (pod) { pod.open = false; pod.open = true; } return pod?.dataset.uid"
        )
        pods = [each for each in told(page)["pending"] if each["uid"] == uid]
        if not pods:
            return None
        query = urlencode({"namespace": pods[0]["namespace"], "pod": pods[0]["pod"]})
        try:
            now = told(page, f"/api/v1/explain?{query}")
        except urllib.error.HTTPError:  # the pod has gone, or too many ask
            return None
        read = driver.execute_script(READ, uid)
        if now["state"] != "refused" or not read or read["sentences"] != now["sentences"]:
            return None  # it has been placed meanwhile, or is not explained yet
        return now, read

    now, read = wait(driver, explained, 40)

    assert now["sentences"][0].startswith("It asks for VirtualMachineInstance ")
    assert " for 1 x nvidia.com/" in now["sentences"][0]
    assert len(now["sentences"]) > 1
    assert sorted(read["groups"]) == [
        "1 node with 8 x NVIDIA H100 80GB HBM3 in pool training",
        "2 nodes with 8 x NVIDIA H100 80GB HBM3",
    ]
    assert read["reasons"]


def test_the_sentences_are_said_and_who_refuses(driver: Any, page: str) -> None:
    opened(driver, page)
    text = said(
        driver,
        {
            "sentences": ["Tenant ml has 14 of 16 memory slices.", "No 3 moves would make room."],
            "groups": [
                {
                    "pool": "training",
                    "gpus": "8 x H100",
                    "nodes": 40,
                    "fits": 3,
                    "reasons": [
                        {"code": "stale", "text": "vGPU: no report", "nodes": 2, "example": "n7"}
                    ],
                }
            ],
        },
    )

    assert text.startswith("Tenant ml has 14 of 16 memory slices.")
    assert "No 3 moves would make room." in text
    assert "40 nodes with 8 x H100 in pool training" in text
    assert "it fits on 3" in text
    assert "no report: 2, such as n7" in text


def test_markup_in_what_is_said_is_text(driver: Any, page: str) -> None:
    opened(driver, page)
    text = said(driver, {"sentences": ["Tenant <img src=x onerror=alert(1)> has 1 of 2."]})

    assert "<img src=x onerror=alert(1)>" in text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("Promise.resolve(new Response('too many ask\\n', { status: 503 }))", "too many ask."),
        ("Promise.resolve(new Response('', { status: 502 }))", "status 502."),
        ("Promise.reject(new TypeError('Failed to fetch'))", "Failed to fetch."),
    ],
)
def test_where_there_is_no_explanation_it_says_why(
    driver: Any, page: str, answer: str, says: str
) -> None:
    opened(driver, page)
    text = opened_pod(driver, answer)

    assert f"The explanation could not be had: {says}" in text
    assert "no free placement for nvidia.com/NVIDIA_H100XM-3-40C" in text  # what is known anyway


def test_an_opened_pod_shows_its_explanation_below_what_is_known_at_once(
    driver: Any, page: str
) -> None:
    opened(driver, page)
    text = opened_pod(
        driver, "Promise.resolve(Response.json({ sentences: ['It asks.'], groups: [] }))"
    )

    assert text.index("no free placement") < text.index("It asks.")
    assert "could not be had" not in text
