from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.settings import Settings, SettingsError, load_settings

PRODUCTION = {
    "BELLHOP_ENV": "production",
    "BELLHOP_DATABASE_URL": "postgresql://bellhop@db/bellhop",
    "BELLHOP_REDIS_URL": "redis://cache:6379/0",
    "BELLHOP_SECRET_KEY": "x" * 40,
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BELLHOP_API_PORT", "eighty"),
        ("BELLHOP_API_PORT", "70000"),
        ("BELLHOP_ENV", "staging"),
        ("BELLHOP_LOG_LEVEL", "LOUD"),
        ("BELLHOP_CORS_ORIGINS", "app.example.com"),
        ("BELLHOP_TRUSTED_PROXIES", "the proxy"),
        ("BELLHOP_SOCKET_NODES", "0"),
        ("BELLHOP_DATABASE_URL", "mysql://db/bellhop"),
        ("BELLHOP_REDIS_URL", "memcached://cache"),
        ("BELLHOP_SECRET_KEY", "short"),
        ("BELLHOP_FLOWER_BASIC_AUTH", "nocolon"),
        ("BELLHOP_DISPATCH_BATCH", "-1"),
        ("BELLHOP_SECRET_KEY_PREVIOUS", "short"),
        ("BELLHOP_JWKS_URL", "id.example.com/jwks.json"),
        ("BELLHOP_JWKS_URL", "ftp://id.example.com/jwks.json"),
        ("BELLHOP_ROOM_RETENTION", "a thousand"),
        ("BELLHOP_ROOM_RETENTION", '{"shop:*:x": {}}'),
        ("BELLHOP_ROOM_RETENTION", '{"shop:*": {"events": 0}}'),
        ("BELLHOP_ROOM_RETENTION", '{"shop:*": {"hours": 1}}'),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load_settings()


@pytest.mark.parametrize("missing", ["BELLHOP_DATABASE_URL", "BELLHOP_REDIS_URL", "BELLHOP_SECRET_KEY"])
def test_production_needs(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, "" if name == missing else value)
    with pytest.raises(SettingsError, match=missing):
        load_settings()


def test_a_complete_production_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BELLHOP_CORS_ORIGINS", "https://a.example, https://b.example")
    settings = load_settings().require_servers()
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_settings_do_not_change_and_do_not_show_secrets() -> None:
    settings = Settings(secret_key="s" * 40)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        settings.api_port = 1  # type: ignore[misc]
    assert "s" * 40 not in repr(settings)
