"""`huahuo types`: a page is compiled against the application that it talks to."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.drivers.snippets import block

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
TSC = WEB / "node_modules" / ".bin" / "tsc"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GOOD = """
import { Client } from "huahuo-client";
import type { States } from "./huahuo-types.js";

const client = new Client({ url: "ws://127.0.0.1:8765", getToken: () => "t" });
const { order_id } = await client.send("place_order", { item: "tea" });
client.subscribe(`order/${order_id}`, {
  onEvent(event) {
    if (event.type === "order_progress") console.log(event.percent.toFixed());
  },
});
export const shown = (order: States["order"]): string => `${order.item} ${order.percent.toFixed()}`;
await client.send("cancel_order", { order_id: order_id });
"""
MISTAKES = [
    ('{ item: "tea" }', '{ itm: "tea" }'),
    ("{ order_id: order_id }", "{}"),
    ("event.percent.toFixed", "event.percents.toFixed"),
    ("order.item}", "order.items}"),
]


def compile_pages(folder: Path) -> str:
    if not TSC.exists():
        pytest.skip("needs the packages of web: run `npm ci` in web, or make web")
    config = {
        "extends": str(WEB / "client" / "tsconfig.json"),
        "compilerOptions": {
            "paths": {"huahuo-client": [str(WEB / "client" / "src" / "index.ts")]},
            "typeRoots": [str(WEB / "node_modules" / "@types")],
            "noUnusedLocals": False,
        },
        "include": [str(folder)],
    }
    (folder / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run([str(TSC), "-p", str(folder)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


LISTS = """
import { Client } from "huahuo-client";
import type { AppClient } from "./huahuo-types.js";

const client: AppClient = new Client({ url: "ws://127.0.0.1:8765", getToken: () => "t" });
await client.send("open_auction", { category: "cars", title: "Volvo", ends_ms: 1 });
const offers = client.list("open_auctions", { category: "cars" }, { limit: 5 });
export const titles = offers.rows.value.map((row) => row.title.toUpperCase());
export const auction = client.entity("auction/7").value.value?.ends_ms.toFixed();
"""
WRONG = [
    ('send("open_auction"', 'send("open_auktion"', "Argument of type '\"open_auktion\"' is not assignable"),
    ('title: "Volvo"', 'titel: "Volvo"', "'titel' does not exist"),
    ('list("open_auctions"', 'list("open_actions"', "to parameter of type '\"open_auctions\"'"),
    ('{ category: "cars" }, {', "{ category: 3 }, {", "Type 'number' is not assignable to type 'string'"),
    ("row.title", "row.titel", "Did you mean 'title'?"),
    ('entity("auction/7")', 'entity("auktion/7")', "`auction/${string}`"),
    ("?.ends_ms", "?.end_ms", "Did you mean 'ends_ms'?"),
]


def test_a_wrong_action_field_list_or_kind_does_not_compile_and_its_error_says_what_there_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "auctions.py").write_text(block("docs/live-lists.md", "auction"), encoding="utf-8")
    command = [sys.executable, "-m", "huahuo", "types", "--app", "auctions:app"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (tmp_path / "huahuo-types.ts").write_text(done.stdout, encoding="utf-8")
    (tmp_path / "good.ts").write_text(LISTS, encoding="utf-8")
    for number, (right, wrong, _) in enumerate(WRONG):
        assert right in LISTS
        (tmp_path / f"bad{number}.ts").write_text(LISTS.replace(right, wrong), encoding="utf-8")
    said = compile_pages(tmp_path).splitlines()
    errors = [line for line in said if ".ts(" in line]
    assert re.findall(r"(\w+)\.ts\(", "\n".join(errors)) == [f"bad{n}" for n in range(len(WRONG))], said
    for line, (_, _, text) in zip(errors, WRONG, strict=True):
        assert text in line


def test_a_page_that_fits_the_application_compiles_and_each_mistake_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "huahuo", "types", "--app", "shop:app"]
    done = subprocess.run(command, cwd=ROOT / "examples" / "shop", capture_output=True, text=True, check=True)
    (tmp_path / "huahuo-types.ts").write_text(done.stdout, encoding="utf-8")
    (tmp_path / "good.ts").write_text(GOOD, encoding="utf-8")
    for number, (right, wrong) in enumerate(MISTAKES):
        assert right in GOOD
        (tmp_path / f"bad{number}.ts").write_text(GOOD.replace(right, wrong), encoding="utf-8")
    said = compile_pages(tmp_path)
    assert re.findall(r"(\w+)\.ts\(", said) == [f"bad{number}" for number in range(len(MISTAKES))], said
