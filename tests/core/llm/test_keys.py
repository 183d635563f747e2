"""A key goes to the host that it belongs to, and to no other; loopback is never asked through a proxy."""

import logging

import pytest

from fixtures_vendors import VendorServer, chat
from gnomon.core.llm import LLMConfig, ask, asking, close, complete, connect, open_llm
from gnomon.core.llm.endpoint.client import Manner
from gnomon.core.llm.endpoint.keys import VENDORS, Keys, is_loopback
from gnomon.errors import BadConfig, UserError

ANY = "http://models.example.org/v1"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "GNOMON_KEYS", *(variable for _, variable in VENDORS.values())):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def sent_to(server, **settings):
    """The Authorization header that a request carries."""
    llm = connect(server.endpoint, LLMConfig(cache="none", **settings))
    (reply,) = complete(llm, [ask("x")])
    close(llm)
    assert reply.error is None
    return server.asked[-1].headers.get("authorization")


def test_the_key_of_a_vendor_goes_to_that_vendor_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        assert sent_to(server) is None
        assert sent_to(server, api_key_env=("OPENAI_API_KEY",)) is None  # named, but for no host
        assert sent_to(server, api_key_env=("OPENAI_API_KEY@127.0.0.1",)) == "Bearer sk-openai"
    assert Keys().key("https://api.openai.com/v1") == "sk-openai"
    assert Keys().key("https://api.openai.com.evil.org/v1") is None
    assert Keys().key("https://api.anthropic.com/v1") is None


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_has_its_server_and_its_variable(vendor, monkeypatch):
    url, variable = VENDORS[vendor]
    with pytest.raises(
        BadConfig, match=rf"{vendor}:some-model needs a key\. Set the environment variable {variable}"
    ):
        open_llm(f"{vendor}:some-model")
    monkeypatch.setenv(variable, "its key")
    llm = open_llm(f"{vendor}:some-model")
    assert (llm.url, llm.model, llm.name) == (url, "some-model", f"{vendor}:some-model")
    assert [Keys().key(server) for server, _ in VENDORS.values()].count("its key") == 1


def test_keys_by_host_from_settings_and_environment(monkeypatch):
    monkeypatch.setenv("KEY_A", "a")
    monkeypatch.setenv("KEY_B", "b")
    keys = Keys(("KEY_A@models.example.org", "KEY_B"))
    assert keys.key("https://models.example.org/v1") == "a"
    assert keys.key("https://models.example.org:8443/v1") == "a"
    assert keys.key("https://other.example.org/v1") == "b"
    assert Keys(("KEY_A@models.example.org:8443",)).key("https://models.example.org/v1") is None
    monkeypatch.setenv("GNOMON_KEYS", "KEY_A@one.example.org, KEY_B@two.example.org")
    assert [Keys().key(f"https://{host}.example.org/v1") for host in ("one", "two", "three")] == [
        "a",
        "b",
        None,
    ]


def test_a_server_that_openai_base_url_names_gets_the_key_of_the_pair(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-pair")
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        llm = connect("openai:tiny", LLMConfig(cache="none"))
        complete(llm, [ask("x")])
        close(llm)
    assert server.asked[0].headers["authorization"] == "Bearer sk-pair"


def test_roles_of_different_vendors_in_one_command(monkeypatch):
    monkeypatch.setenv("KEY_A", "a")
    monkeypatch.setenv("KEY_B", "b")
    with VendorServer(lambda _: (200, chat("A"))) as one, VendorServer(lambda _: (200, chat("B"))) as two:
        hosts = [server.url.split("/")[2] for server in (one, two)]
        settings = LLMConfig(api_key_env=(f"KEY_A@{hosts[0]}", f"KEY_B@{hosts[1]}"), cache="none")
        with asking({"first": one.endpoint, "second": two.endpoint}, settings) as models:
            texts = [complete(models[role], [ask("x")])[0].text for role in ("first", "second")]
    assert texts == ["A", "B"]
    assert [server.asked[0].headers["authorization"] for server in (one, two)] == ["Bearer a", "Bearer b"]


@pytest.mark.parametrize(
    ("url", "warns"),
    [(ANY, True), ("https://models.example.org/v1", False), ("http://127.0.0.1:9/v1", False), ("http://localhost:9/v1", False)],
)  # fmt: skip
def test_a_key_in_the_open_is_warned_of(url, warns, monkeypatch, caplog):
    monkeypatch.setenv("KEY_A", "a secret")
    with caplog.at_level(logging.WARNING):
        open_llm(f"{url}#tiny", manner=Manner(Keys(("KEY_A",))))
    assert ("travels unencrypted" in caplog.text) == warns
    assert "a secret" not in caplog.text


@pytest.mark.parametrize("entry", ["", "@host", "NAME@", "NAME@http://host"])
def test_misspelt_keys(entry):
    with pytest.raises(BadConfig, match="VARIABLE or VARIABLE@HOST"):
        LLMConfig(api_key_env=(entry,))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"headers": ("api-key=abc",)}, "holds a secret.*Write api-key=env:VARIABLE"),
        ({"headers": ("Authorization=Bearer abc",)}, "holds a secret"),
        ({"headers": ("x",)}, "llm.headers must be NAME=VALUE"),
        ({"body": ("=3",)}, "llm.body must be NAME=VALUE"),
    ],
)
def test_misspelt_fields_and_headers(settings, says):
    with pytest.raises(BadConfig, match=says):
        connect(f"{ANY}#tiny", LLMConfig(**settings))


def test_a_header_whose_variable_is_not_set():
    llm = connect("http://127.0.0.1:9/v1#tiny", LLMConfig(headers=("x=env:NOT_SET_AT_ALL",), cache="none"))
    with pytest.raises(BadConfig, match="needs the environment variable NOT_SET_AT_ALL"):
        complete(llm, [ask("x")])
    close(llm)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense"])
def test_loopback_is_never_asked_through_a_proxy(proxy, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    with VendorServer(lambda request: (200, chat("fine"))) as server:
        assert sent_to(server) is None
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("proxy", "says"), [("socks5://127.0.0.1:9", "pip install socksio"), ("nonsense://x", "cannot be used")]
)
def test_a_proxy_that_cannot_be_used_is_one_sentence(proxy, says, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", proxy)
    llm = connect(f"{ANY}#tiny", LLMConfig(cache="none"))
    with pytest.raises(UserError, match=says) as error:
        complete(llm, [ask("x")])
    assert "\n" not in str(error.value)


def test_what_is_on_this_machine():
    assert is_loopback("http://[::1]:80/v1") and is_loopback("http://a.localhost/v1")
    assert not is_loopback("http://127.0.0.1.example.org/v1")
