"""
The guarded HTTP client under test, and nginx as a server of every kind of answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from cftpki_connectors.fetch.client import Fetcher
from tests.support.servers import (
    Server,
    nginx,
)


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher()
    yield made
    await made.aclose()


NGINX_LOCATIONS = """
location /ok { return 200 fine; }
location /gz { gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any; add_header X-Try 1; root PLACE; }
location /encoded { add_header Content-Encoding gzip; return 200 fine; }
location /once { return 302 /ok; }
location /three { return 307 /two; }
location /two { return 308 /once; }
location /four { return 301 /three; }
location /loop { return 302 /loop; }
location /metadata { return 302 http://169.254.169.254/latest/meta-data/; }
location /elsewhere { return 302 http://other.example/; }
location /loopback { return 302 http://127.0.0.2:$server_port/ok; }
location /file { return 302 file:///etc/passwd; }
location /user { return 302 http://user@127.0.0.1:$server_port/ok; }
location /html { default_type text/html; return 200 "<html>please log in</html>"; }
location /missing { return 404; }
location /gone { return 410; }
location /busy { return 503; }
location /error { return 500; }
location /many { return 429; }
location /slow.bin { limit_rate 1k; }
location /cookie { add_header Set-Cookie "session=1; Path=/"; return 200 fine; }
location /show-cookie { return 200 "[$http_cookie]"; }
location /show-host { return 200 "$http_host $http_accept_encoding $http_user_agent"; }
"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("web")
    files = {"slow.bin": bytes(9_000), "exact.bin": bytes(10_000), "large.bin": bytes(10_001)}
    locations = NGINX_LOCATIONS.replace("root PLACE;", "")
    with nginx(path, files, locations) as server:
        yield server
