"""
A list in pages, which works with every API server.

Source: "Kubernetes API Concepts", retrieving large results sets in chunks.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nfproxy.kube.watch import Page, StreamError
from nfproxy.text import plural

_PAGE_SIZE, _SMALLEST_PAGE = 500, 4  # objects; as in client-go
_SMALLER = 5  # a page that is too long is asked for again with this part of the objects
_PAGE_BYTES = 2 << 20  # an answer is in memory as a whole, so larger objects come in smaller pages
_PAGED_ATTEMPTS = 2
# A server may send shorter pages than it is asked for, but not so many of nearly nothing.
_SPARE_PAGES = 10
_FULL = 1 / 25  # of the objects that were asked for


class ListRequest(msgspec.Struct, frozen=True):
    """Ask for a page of a list, of up to `max_bytes`; `is_first` where it is the first page."""

    query: Mapping[str, str]
    is_first: bool
    max_bytes: int


class PagedList:
    """
    Which page to ask for. All pages must be of one version: otherwise objects may have come or gone
    between them, and the list would have gaps.
    """

    def __init__(self, selectors: Mapping[str, str]) -> None:
        """Begin with the first page."""
        self._selectors = selectors
        self._page_size = self._most = _PAGE_SIZE
        self.reset()

    def reset(self) -> None:
        """Forget everything, for another list."""
        self._attempts = 0
        self._begin()

    def _begin(self) -> None:
        self._token = self._version = ""
        self._tokens: set[str] = set()
        self._expected = 0  # objects that full pages would have had, without the first pages
        self.objects = 0

    def request(self, max_bytes: int) -> ListRequest:
        """Return what to ask next."""
        query = dict(self._selectors)
        # A list that takes too long expires between two pages. After two such lists, one request
        # asks for everything: a large answer, but one that cannot expire.
        if self._attempts < _PAGED_ATTEMPTS:
            query["limit"] = str(self._page_size)
        if self._token:
            query["continue"] = self._token
        return ListRequest(query, not self._token, max_bytes)

    @property
    def has_begun(self) -> bool:
        """Whether a page has been added since the beginning."""
        return bool(self._version)

    def fits(self, page: Page) -> bool:
        """Return whether a page continues the list."""
        return page.version == self._version or not self._version

    def add(self, page: Page, size: int) -> None:
        """Take a page that fits, of `size` bytes. Raises StreamError if the pages never end."""
        self._version, self._token = page.version, page.continue_token
        self.objects += len(page.items)
        if len(self._tokens) >= _SPARE_PAGES:
            self._expected += self._page_size
        self.learn(len(page.items), size)
        if not page.continue_token:
            return
        if page.continue_token in self._tokens:
            raise StreamError("a list never ends: a continue token came twice")
        self._tokens.add(page.continue_token)
        if self._expected * _FULL > self.objects:
            pages = len(self._tokens)
            raise StreamError(
                f"a list never ends: {pages} pages had {plural(self.objects, 'object')}"
            )

    def learn(self, objects: int, size: int) -> None:
        """Take it that so many objects had so many bytes: choose how many a page should have."""
        if objects:
            fits = _PAGE_BYTES * objects // size
            self._page_size = min(max(fits, _SMALLEST_PAGE), self._most)

    def shrink(self) -> None:
        """Ask for smaller pages from now on: one was too long."""
        self._most = self._page_size = max(self._page_size // _SMALLER, _SMALLEST_PAGE)

    def start_over(self) -> bool:
        """
        Begin again after the list expired; return False if that was tried often enough.

        The token in such an answer would continue at a later version, with gaps.
        """
        if self._attempts == _PAGED_ATTEMPTS:
            self.reset()
            return False
        self._attempts += 1
        self._begin()
        return True
