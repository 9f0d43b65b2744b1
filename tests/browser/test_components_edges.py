"""What the components make of a gateway, a network and a page that are not as they should be."""

from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Page, expect

from tests.browser.complaints import Complaints
from tests.browser.double import Double, Stream, doubled
from tests.browser.looking import axe, screenshot
from tests.browser.showing import BALANCE
from tests.waiting import wait_until

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    async with doubled() as double:
        yield double


async def opened(double: Double, number: int) -> Stream:
    """The stream of that number, from 1, once it is there."""
    await wait_until(lambda: len(double.streams) >= number)
    return double.streams[number - 1]


async def passing(page: Page, holds: Callable[[], bool]) -> None:
    """Have time pass in the page until that holds."""

    async def later() -> bool:
        if not holds():
            await page.clock.fast_forward(1000)
        return holds()

    await wait_until(later, within_s=30)


async def test_streams_are_read_however_they_are_cut(double: Double, page: Page) -> None:
    double.site.lang = "en_US"  # Which is no language's name.
    await double.show(page)
    stream = await opened(double, 1)
    for character in '\ufeffretry: 1000\n\n:\n\nevent: balance\nid: 1\ndata: {"available":5,"posted":5}\n\n':
        stream.say(character)
    await expect(page.locator(BALANCE)).to_have_text("5")
    # Once 6 is shown, the carriage return has arrived, too.
    stream.say(
        'event: other\ndata: 1\n\ndata: 2\n\nevent:balance\ndata:{"available":6}\n\n'
        'event:balance\ndata:{"available":\r'
    )
    await expect(page.locator(BALANCE)).to_have_text("6")
    stream.say("\ndata: 7}\r\n\r\n")
    await expect(page.locator(BALANCE)).to_have_text("7")
    stream.say('event: balance\rdata: {"available":-7}\r\r:\r')
    await expect(page.locator(BALANCE)).to_have_text("-7")
    assert len(double.streams) == 1


GARBAGE = [
    "event: balance\ndata: {\n\n",
    'event: balance\ndata: {"available":"<b>1</b>"}\n\n',
    'event: balance\ndata: {"available":1e300}\n\n',
    "event: balance\ndata: null\n\n",
    "x" * 70_000,
]


async def test_garbage_is_not_shown_and_the_next_stream_is_listened_to(double: Double, page: Page) -> None:
    await page.clock.install()
    await double.show(page)
    for number, garbage in enumerate(GARBAGE, 1):
        await passing(page, lambda number=number: len(double.streams) == number)  # type: ignore[misc]
        stream = double.streams[-1]
        stream.balance(number, seq=number)
        await expect(page.locator(BALANCE)).to_have_text(str(number))
        await expect(page.get_by_text("reconnecting…")).to_be_hidden()
        stream.say(garbage)
        await expect(page.get_by_text("reconnecting…")).to_be_visible()
        await expect(page.locator(BALANCE)).to_have_text(str(number))
        await wait_until(lambda stream=stream: not stream.is_open)  # type: ignore[misc]
    assert len({stream.token for stream in double.streams}) == len(GARBAGE)


async def test_outages_are_outlasted_and_silence_is_one(
    double: Double, complaints: Complaints, page: Page
) -> None:
    complaints.expect("status of (401|503)")
    await page.clock.install()
    double.refusals.extend([503] * 8)
    await double.show(page)
    await expect(page.locator("credits-balance").get_by_text("reconnecting…")).to_be_visible()
    await expect(page.get_by_text("No connection yet. Trying again…")).to_be_visible()
    await passing(page, lambda: len(double.streams) == 1)
    double.streams[0].balance(100)
    await expect(page.locator(BALANCE)).to_have_text("100")

    await passing(page, lambda: not double.streams[0].is_open)
    await expect(page.get_by_text("reconnecting…")).to_be_visible()
    await passing(page, lambda: len(double.streams) == 2)
    double.refusals.append(401)  # For a token that the page had kept for too long.
    double.streams[1].end()
    await passing(page, lambda: len(double.streams) == 3)
    assert double.asked[-2:] == [{"skipCache": False}, {"skipCache": True}]
    double.streams[2].balance(90, seq=2)
    await expect(page.locator(BALANCE)).to_have_text("90")

    double.refusals.extend([401, 401])  # For a fresh one, too.
    double.streams[2].end()
    await passing(page, lambda: not double.refusals)
    await expect(page.locator("credits-balance").get_by_text("Signed out")).to_be_visible()
    await expect(page.locator(BALANCE)).to_have_text("")


async def test_a_tab_that_is_hidden_for_long_gives_its_connection_back(double: Double, page: Page) -> None:
    await page.clock.install()
    await double.show(page)
    stream = await opened(double, 1)
    stream.balance(100)
    await expect(page.locator(BALANCE)).to_have_text("100")
    turn = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    turn += "document.dispatchEvent(new Event('visibilitychange')) }"
    await page.evaluate(turn, True)
    await page.clock.fast_forward(40_000)
    stream.balance(99)
    await expect(page.locator(BALANCE)).to_have_text("99")
    await page.evaluate(turn, False)
    await page.evaluate(turn, True)
    await page.clock.fast_forward(40_000)
    stream.balance(98)
    await expect(page.locator(BALANCE)).to_have_text("98")
    assert len(double.streams) == 1
    await page.clock.fast_forward(20_000)
    await wait_until(lambda: not stream.is_open)
    asked = len(double.asked)
    await page.clock.fast_forward(600_000)
    await page.evaluate("() => fetch('/page.js').then(() => null)")  # What had begun before has asked by now.
    assert len(double.asked) == asked
    await page.evaluate(turn, False)
    (await opened(double, 2)).balance(90, seq=2)
    await expect(page.locator(BALANCE)).to_have_text("90")


async def test_history_that_cannot_be_had_is_tried_again_and_html_in_it_is_text(
    double: Double, complaints: Complaints, page: Page
) -> None:
    complaints.expect("status of 500")
    double.history = None
    await double.show(page)
    stream = await opened(double, 1)
    stream.balance(100)
    await expect(page.get_by_text("The history could not be loaded.")).to_be_visible()
    await page.get_by_role("button", name="Try again").press("Enter")
    await wait_until(lambda: double.histories == 2)  # However soon it was pressed.
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await axe(page)
    await screenshot(page, "components-error")
    double.history = [
        {"id": "5-1", "at": 5, "kind": HOSTILE, "action": HOSTILE}
        | {"amount": 100, "hold": 0, "posted": 100, "held": 0}
    ]
    await page.get_by_role("button", name="Try again").press("Enter")
    line = page.locator("credits-history tbody tr")
    await expect(line).to_have_count(1)
    await expect(line).to_contain_text(HOSTILE)
    await expect(line).to_be_focused()  # Not lost with the button.
    assert await page.locator("img").count() == 0


async def test_elements_work_whenever_and_however_they_are_made(double: Double, page: Page) -> None:
    double.site.bodies["/"] = "<main><h1>Late</h1></main>"
    double.site.head = ""
    await double.show(page)
    await page.evaluate(
        """async (gateway) => {
            const early = document.createElement("credits-balance");
            early.getToken = (options) => issueToken(options);  // Before anybody knows what that is.
            document.querySelector("main").append(early);
            await import(gateway + "/components.js");
            await import(gateway + "/components.js?again");
        }""",
        double.site.gateway,
    )
    stream = await opened(double, 1)
    stream.balance(100)
    await expect(page.locator(BALANCE)).to_have_text("100")
    await page.evaluate("""() => {
        const early = document.querySelector("credits-balance");
        for (let renders = 0; renders < 9; renders++) early.getToken = (options) => issueToken(options);
    }""")
    assert stream.is_open
    assert len(double.asked) == 1
    await page.evaluate(
        "(url) => { document.querySelector('credits-balance').gateway = url }",
        f"{double.site.gateway}/below/",
    )
    (await opened(double, 2)).balance(7)
    await wait_until(lambda: not stream.is_open)
    await expect(page.locator(BALANCE)).to_have_text("7")


async def test_a_page_without_clerk_is_one_where_nobody_is_signed_in(double: Double, page: Page) -> None:
    await page.clock.install()
    double.site.script = ""
    await double.show(page)
    await expect(page.get_by_role("status", name="Loading credits")).to_be_visible()
    await page.clock.run_for(10_000)
    await expect(page.locator("credits-balance").get_by_text("Signed out")).to_be_visible()
    assert double.streams == []
