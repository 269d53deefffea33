from __future__ import annotations

from uuid import UUID

import pytest

from domain.apps import MAX_OLD_SLUGS, AppChanged, AppCreated, AppDeleted, AppPurged, ChangeApp, DeleteApp, LoseSlug, check_slug
from domain.errors import Invalid
from domain.events import Event
from tests.domain.given import given

APP = UUID(int=1)
CREATED = AppCreated(app_id=APP, name="Shop", slug="a")
DELETED = AppDeleted(app_id=APP, slug="a", name="Shop")


def changed(slug: str, *old_slugs: str, name: str = "Shop") -> AppChanged:
    return AppChanged(app_id=APP, name=name, slug=slug, old_slugs=old_slugs)


def change(slug: str | None = None, name: str | None = None) -> ChangeApp:
    return ChangeApp(app_id=APP, slug=slug, name=name)


def test_another_name_leaves_the_slug() -> None:
    given(CREATED).when(change(name="New")).then(changed("a", name="New"))
    given(changed("b", "a")).when(change(name="New")).then(changed("b", "a", name="New"))


def test_another_slug_keeps_the_old_one() -> None:
    given(CREATED).when(change("b")).then(changed("b", "a"))
    given(changed("b", "a")).when(change("c", "New")).then(changed("c", "a", "b", name="New"))


def test_a_slug_that_is_taken_back_is_old_no_longer() -> None:
    given(changed("c", "a", "b")).when(change("a")).then(changed("a", "b", "c"))


def test_what_is_so_already_changes_nothing() -> None:
    for effect in (change(), change("a"), change(name="Shop"), change("a", "Shop")):
        given(CREATED).when(effect).then()


def test_old_slugs_are_bounded() -> None:
    full = changed("now", *(f"s{number}" for number in range(MAX_OLD_SLUGS)))
    given(full).when(change("next")).refused("too_many_old_slugs", "slug")
    given(full).when(change("s7")).then(changed("s7", *(old for old in full.old_slugs if old != "s7"), "now"))
    given(full).when(change(name="New")).then(changed("now", *full.old_slugs, name="New"))


def test_an_old_slug_is_lost_to_another_app() -> None:
    given(changed("c", "a", "b")).when(LoseSlug(app_id=APP, slug="a")).then(changed("c", "b"))
    for slug in ("c", "x"):
        given(changed("c", "a", "b")).when(LoseSlug(app_id=APP, slug=slug)).refused("version_conflict")


def test_an_app_ends_once() -> None:
    given(CREATED).when(DeleteApp(app_id=APP)).then(DELETED)
    given(changed("b", "a", name="New")).when(DeleteApp(app_id=APP)).then(AppDeleted(app_id=APP, slug="b", name="New"))


@pytest.mark.parametrize("history", [(), (CREATED, DELETED), (CREATED, DELETED, AppPurged(app_id=APP))])
def test_what_is_not_there_is_not_changed(history: tuple[Event, ...]) -> None:
    for effect in (change("b"), LoseSlug(app_id=APP, slug="a"), DeleteApp(app_id=APP)):
        given(*history).when(effect).refused("app_not_found")


@pytest.mark.parametrize("slug", ["", "A", "a.b", "-a", "a-", "a_b", "ü", "a\n", "a" * 64, "018f0000-0000-7000-8000-000000000000"])
def test_slugs_are_dns_labels_and_no_ids(slug: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_slug(slug)
    assert refused.value.field == "slug"
