# The part of the package that the tests look for barriers with; its own types are not whole.

from playwright.sync_api import Page

class AxeResults:
    @property
    def violations_count(self) -> int: ...
    def generate_report(self) -> str: ...

class Axe:
    def run(self, page: Page) -> AxeResults: ...
