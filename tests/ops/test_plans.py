"""Hot statements keep to their indexes, even with plans from empty tables, and every statement is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from models.database import connect
from models.queries import audit as audit_sql
from models.queries import collapse as collapse_sql
from models.queries import digests as digests_sql
from models.queries import dispatch as dispatch_sql
from models.queries import erase as erase_sql
from models.queries import explain as explain_sql
from models.queries import inbox as inbox_sql
from models.queries import ingest as ingest_sql
from models.queries import keys as keys_sql
from models.queries import listing as listing_sql
from models.queries import preferences as preferences_sql
from models.queries import presence as presence_sql
from models.queries import pushes as pushes_sql
from models.queries import receipts as receipts_sql
from models.queries import recover as recover_sql
from models.queries import retention as retention_sql
from models.queries import revocations as revocations_sql
from models.queries import rooms as rooms_sql
from models.queries import tenants as tenants_sql
from models.queries import topics as topics_sql
from models.queries import types as types_sql
from models.queries import withdraw as withdraw_sql
from models.states import Action, Priority
from ops.__main__ import app
from ops.plans import session
from ops.plans.explain import Explainer, Kind
from ops.plans.fill import BIG_TABLES, DEEP, TENANT, Size, fill, row_counts, tidy_up
from ops.plans.plan import Plan
from ops.plans.report import Finding, as_text, exit_status
from ops.plans.statement import Hot
from ops.plans.statements import Sample, hot_statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.database import Connection

SIZE = Size.of(20_000)
COLD = {
    *("dispatch.LOCK_PRIORITY", "dispatch.WAIT_LITTLE_FOR_LOCKS"),  # touch no table
    *("dispatch.NOTE_EVENTS", "dispatch.NOTE_SUPPRESSIONS"),  # insert into what is not big
    "preferences.SET_PREFERENCES",  # one row by its key
    *("audit.COUNT_BY_STATE", "audit.FAULTY_NOTIFICATIONS", "audit.COUNT_INBOXES", "audit.FAULTY_INBOXES"),
    *(
        "audit.COUNT_ORPHANS",
        "audit.ORPHANS",
        "audit.COUNT_DIGESTS",
        "audit.FAULTY_DIGESTS",
    ),  # read it all
    *("withdraw.NOTE_RECALL", "withdraw.NOTE_RECALL_TO_BE_COUNTED"),  # into what is not big, too
    *("keys.CREATE_KEY", "keys.LIST_KEYS", "keys.LIST_ALL_KEYS", "keys.REVOKE_KEY_IF_LIVE"),
    *("tenants.GET_TENANT", "tenants.TENANTS_AFTER", "tenants.LIST_TENANTS"),
    *("tenants.CREATE_IF_NEW", "tenants.CHANGE_IF_THERE", "tenants.DELETE_TENANT", "tenants.RETENTION_OF_TENANTS"),
    *("tenants.LOCK_TENANT", "types.LOCK_CATALOGUE", "tenants.DELETE_EMPTY_ROOMS"),
    *("recover.LIST_PARKED", "recover.REPLAY_PARKED"),  # an operator waits for them, and for those of keys
}
BY_TYPE = Hot(
    "by type", "no index begins with it", "SELECT * FROM delivery WHERE type = %(type)s", {"type": "shop.sale"}
)


def plans_from_when_tables_were_empty(connection: Connection, database_url: str) -> Iterator[Finding]:
    explainer = Explainer(connection)
    empty = hot_statements(SIZE, Sample.of(connection))
    for hot in empty:
        explainer.plan(hot, Kind.GENERIC, analyze=False)
    fill(database_url, SIZE)
    for hot in hot_statements(SIZE, Sample.of(connection)):
        kept = explainer.plan(hot, Kind.GENERIC)
        yield Finding(hot, kept, kept)


def read_whole(findings: Iterator[Finding]) -> dict[str, list[str]]:
    return {finding.hot.name: finding.read_whole() for finding in findings if finding.read_whole()}


def claims_of(findings: Iterator[Finding]) -> dict[str, Plan]:
    return {finding.hot.name: finding.generic for finding in findings if finding.hot.name.startswith("claim")}


@pytest.mark.parametrize("analyzed", [False, True])
def test_plans_made_on_empty_tables_read_no_big_table_whole(
    connection: Connection, database_url: str, analyzed: bool
) -> None:
    if analyzed:
        tidy_up(database_url)
    assert read_whole(plans_from_when_tables_were_empty(connection, database_url)) == {}


def test_a_claim_with_a_plan_made_on_empty_tables_reads_what_it_claims_and_no_more(
    connection: Connection, database_url: str
) -> None:
    claims = claims_of(plans_from_when_tables_were_empty(connection, database_url))
    assert {name: plan.read for name, plan in claims.items()} == {
        name: 2 * plan.rows for name, plan in claims.items()
    }  # of the outbox, and of notification
    assert claims["claim 50"].rows == 50


def test_without_the_switches_such_a_claim_would_read_and_sort_everything_that_is_due(database_url: str) -> None:
    with connect(database_url) as connection:
        for switch in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            connection.execute(f"SET {switch} = on")
        claims = claims_of(plans_from_when_tables_were_empty(connection, database_url))
    assert claims["claim 50"].rows == 50
    assert claims["claim 50"].read >= SIZE.due / len(Priority)


def test_plans_made_with_statistics_read_no_big_table_whole(connection: Connection, database_url: str) -> None:
    fill(database_url, SIZE)
    tidy_up(database_url)
    findings = list(session.look(connection, SIZE))
    assert read_whole(iter(findings)) == {}
    assert exit_status(findings) == 0


TIDY_PEOPLE = "UPDATE delivery SET read_at = delivered_at, seen_at = delivered_at, archived_at = NULL"
NEGLECTED = """
UPDATE delivery d SET read_at = CASE WHEN seq %% 4 = 0 THEN read_at END,
       seen_at = CASE WHEN seq %% 4 = 0 THEN seen_at END,
       archived_at = CASE WHEN seq %% 4 = 2 THEN now() END
FROM inbox i WHERE i.id = d.inbox_id AND i.user_id = %(user)s AND d.seq > i.last_seq / 2
"""
COUNT_AGAIN = """
UPDATE inbox i SET unread = c.unread, unseen = c.unseen
FROM (
    SELECT inbox_id, count(*) - count(read_at) AS unread, count(*) - count(seen_at) AS unseen
    FROM delivery WHERE archived_at IS NULL AND deleted_at IS NULL GROUP BY inbox_id
) c
WHERE c.inbox_id = i.id
"""


def actions_on_many(connection: Connection) -> Iterator[Hot]:
    (box,) = connection.execute("SELECT last_seq FROM inbox WHERE user_id = %s", (DEEP,)).fetchall()
    seqs = list(range(box["last_seq"] - 999, box["last_seq"] + 1))
    for action in Action:
        given = {"tenant": TENANT, "user": DEEP, "seqs": seqs, "up_to": box["last_seq"], "action": str(action)}
        yield Hot(f"{action} a thousand", "", inbox_sql.ACT_ON_SEQS[action], given, writes=True)
        yield Hot(f"{action} all", "", inbox_sql.ACT_UP_TO[action], given, writes=True)


def test_actions_on_many_compare_no_pairs_though_their_plans_are_from_when_everybody_had_read_everything(
    connection: Connection, database_url: str
) -> None:
    fill(database_url, SIZE)
    connection.execute(TIDY_PEOPLE)
    connection.execute(COUNT_AGAIN)
    tidy_up(database_url)
    explainer = Explainer(connection)
    for hot in actions_on_many(connection):
        explainer.plan(hot, Kind.GENERIC, analyze=False)
    connection.execute(NEGLECTED, {"user": DEEP})
    connection.execute(COUNT_AGAIN)
    plans = {hot.name: explainer.plan(hot, Kind.GENERIC) for hot in actions_on_many(connection)}
    assert {name: said for name, plan in plans.items() if (said := plan.wasteful()).startswith("compared")} == {}


def test_what_language_users_come_with_is_read_by_the_look_up_of_their_preferences(
    connection: Connection, database_url: str
) -> None:
    fill(database_url, SIZE)
    tidy_up(database_url)
    explainer = Explainer(connection)
    for hot in hot_statements(SIZE, Sample.of(connection)):
        if hot.name.startswith("preferences"):
            read = [node for _, node in explainer.plan(hot, Kind.GENERIC).nodes() if "Relation Name" in node]
            assert [node["Index Name"] for node in read if node["Relation Name"] == "preference"] == ["preference_pkey"]
            others = {node["Relation Name"] for node in read} - {"preference"}
            assert others <= {"topic_subscription", "inbox", "broadcast"}  # whom a broadcast is for


@pytest.mark.parametrize("seqscan", ["on", "off"])
def test_the_check_sees_a_statement_that_has_no_index(connection: Connection, database_url: str, seqscan: str) -> None:
    fill(database_url, SIZE)
    tidy_up(database_url)
    connection.execute(f"SET enable_seqscan = {seqscan}")
    explainer = Explainer(connection)
    finding = Finding(BY_TYPE, explainer.plan(BY_TYPE, Kind.CUSTOM), explainer.plan(BY_TYPE, Kind.GENERIC))
    assert finding.read_whole()
    assert exit_status([finding]) == 1
    assert f"- by type: {finding.read_whole()[0]}" in as_text([finding])


def test_an_index_scan_without_a_condition_counts_as_reading_the_whole() -> None:
    scan = {"Node Type": "Index Scan", "Index Name": "delivery_pkey", "Relation Name": "delivery"}
    assert Plan({"Node Type": "Limit", "Plans": [scan]}, 0).read_whole() == [
        "Index Scan using delivery_pkey on delivery"
    ]
    assert Plan({**scan, "Index Cond": "(inbox_id = 1)"}, 0).read_whole() == []
    assert Plan({**scan, "Relation Name": "parked"}, 0).read_whole() == []


def test_rows_that_a_filter_drops_are_counted_as_thrown_away() -> None:
    scan = {
        "Node Type": "Index Scan",
        "Relation Name": "delivery",
        "Index Cond": "(inbox_id = 1)",
        "Actual Rows": 1,
        "Actual Loops": 2,
        "Rows Removed by Filter": 5_000,
    }
    plan = Plan(scan, 0)
    assert (plan.read, plan.thrown_away) == (10_002, 10_000)
    assert plan.wasteful() == "threw 10,000 of 10,002 rows away"
    assert Plan({**scan, "Rows Removed by Filter": 5}, 0).wasteful() == ""


def test_rows_that_a_join_compares_in_vain_count_as_waste() -> None:
    join = {"Node Type": "Nested Loop", "Actual Rows": 2_000, "Actual Loops": 1, "Rows Removed by Join Filter": 4e6}
    assert Plan({"Node Type": "Limit", "Plans": [join]}, 0).wasteful() == (
        "compared 4,000,000 pairs of rows to join 2,000"
    )
    assert Plan({**join, "Rows Removed by Join Filter": 10_000}, 0).wasteful() == ""


def test_every_statement_of_the_product_is_looked_at_or_is_known_to_be_cold(connection: Connection) -> None:
    looked_at = {hot.sql for hot in hot_statements(SIZE, Sample.of(connection))}
    modules = (
        ingest_sql,
        dispatch_sql,
        inbox_sql,
        receipts_sql,
        recover_sql,
        keys_sql,
        rooms_sql,
        revocations_sql,
        presence_sql,
        topics_sql,
        preferences_sql,
        withdraw_sql,
        types_sql,
        collapse_sql,
        digests_sql,
        listing_sql,
        explain_sql,
        erase_sql,
        audit_sql,
        retention_sql,
        tenants_sql,
        pushes_sql,
    )
    unknown = {
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_")
        for statement in (value.values() if isinstance(value, dict) else [value])
        if isinstance(statement, str) and statement not in looked_at
    }
    assert {name.removeprefix("models.queries.") for name in unknown} == COLD


def test_explaining_leaves_everything_as_it_was(connection: Connection, database_url: str) -> None:
    fill(database_url, SIZE)
    before = row_counts(connection)
    inboxes = connection.execute("SELECT * FROM inbox ORDER BY id").fetchall()
    list(session.look(connection, SIZE))
    assert row_counts(connection) == before
    assert connection.execute("SELECT * FROM inbox ORDER BY id").fetchall() == inboxes


def test_the_rows_agree_with_each_other_as_if_the_product_had_written_them(
    connection: Connection, database_url: str
) -> None:
    fill(database_url, SIZE)
    counts = row_counts(connection)
    assert all(counts[table] for table in BIG_TABLES)
    assert counts["outbox"] == SIZE.due + SIZE.later
    wrong = """
    SELECT i.id FROM inbox i JOIN LATERAL (
        SELECT count(*) AS entries, count(n.id) AS said,
               count(*) FILTER (WHERE d.read_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL) AS unread,
               count(*) FILTER (WHERE d.seen_at IS NULL AND archived_at IS NULL AND deleted_at IS NULL) AS unseen
        FROM delivery d LEFT JOIN notification n ON n.id = d.notification_id AND n.type = d.type
             AND n.domain = d.domain AND n.priority = d.priority
        WHERE d.inbox_id = i.id
    ) d ON true
    CROSS JOIN LATERAL (SELECT count(*) AS entries FROM inbox_change c WHERE c.inbox_id = i.id) c
    WHERE d.said <> d.entries OR d.entries + c.entries < i.last_seq OR (d.unread, d.unseen) <> (i.unread, i.unseen)
    """
    assert connection.execute(wrong).fetchall() == []


def test_the_command_uses_a_postgres_of_its_own_and_writes_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document = tmp_path / "docs" / "plans.md"
    document.parent.mkdir()
    monkeypatch.setattr(session, "DOCUMENT", document)
    monkeypatch.setenv("BELLHOP_DATA_DIR", str(tmp_path / "data"))
    result = CliRunner().invoke(app, ["plans", "--deliveries", "10000", "--write"])
    assert result.exit_code == int("Read whole, which must not be" in result.stdout), result.output
    text = document.read_text()
    assert "python -m ops plans --deliveries 10000 --write" in text
    assert "delivery 10,100" in text
    assert "### claim 500" in text
    assert str(tmp_path) not in text
    assert [path.name for path in (tmp_path / "data").glob("plans-*")] == []
