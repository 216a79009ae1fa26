"""The ledger's page in Chromium: it filters, searches and sorts, a link keeps what is shown, phones can read it.

Needs Debian's packages chromium and chromium-driver, or their like; nothing is downloaded.
"""

import os
import shutil

import ledger_study
import pytest

webdriver = pytest.importorskip('selenium.webdriver', reason='no selenium in this environment')

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')
LIMIT = 60  # seconds for the page to load and for a script
EVERY = ['T1', 'T2', 'T2a', 'T3', 'U1', 'X1', 'W9b']

pytestmark = [
  pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='no chromium with chromedriver on this machine'),
  pytest.mark.timeout(180),
]


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  profile = tmp_path_factory.mktemp('profile')
  for option in (
    'headless',
    'no-sandbox',
    'disable-gpu',
    'disable-dev-shm-usage',
    f'user-data-dir={profile}',
  ):
    options.add_argument(f'--{option}')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('NO_PROXY', ','.join(filter(None, ('localhost', '127.0.0.1', os.environ.get('NO_PROXY')))))
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(LIMIT)
    driver.set_script_timeout(LIMIT)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, tmp_path):
  path = tmp_path / 'index.html'
  path.write_text(ledger_study.page_of(ledger_study.results(tmp_path)), encoding='utf-8')
  browser.get(path.as_uri())
  return browser


def shown(page) -> list[str]:
  """The ids of the rows that are seen, in their order; the page must say their number."""
  found = [row.get_attribute('id') for row in every(page, '#claims tbody tr') if row.is_displayed()]
  assert every(page, '#shown')[0].text == f'{len(found)} of {len(EVERY)} shown'
  return found


def every(page, selector: str) -> list:
  return page.find_elements('css selector', selector)


def click(page, *selectors: str) -> None:
  for selector in selectors:
    every(page, selector)[0].click()


def test_filters_and_searches(page):
  assert shown(page) == EVERY
  click(page, 'input[value=supported]', 'input[value=contradicted]')
  assert shown(page) == ['T1', 'T2', 'T2a', 'U1', 'W9b']
  every(page, 'select[name=study]')[0].send_keys('first')
  assert shown(page) == ['T1', 'T2', 'T2a']
  page.refresh()  # the address keeps what is shown
  assert shown(page) == ['T1', 'T2', 'T2a']
  click(page, 'button[type=reset]', 'input[name=fragile]')
  assert shown(page) == ['T2']
  click(page, 'button[type=reset]')
  every(page, 'input[type=search]')[0].send_keys('nobody ASKED')
  assert shown(page) == ['T3']


def test_a_filter_says_how_many_rows_it_shows(page):
  for chip in every(page, 'label.chip'):
    chip.click()
    assert int(chip.text.split()[-1]) == len(shown(page))
    chip.click()


def test_says_that_nothing_fits(page):
  every(page, 'input[type=search]')[0].send_keys('xyzzy')
  assert shown(page) == []
  click(page, '#none button')
  assert shown(page) == EVERY


def test_sorts(page):
  click(page, '[data-key=effect]')
  assert shown(page) == ['U1', 'T2', 'T1', 'W9b', 'T2a', 'T3', 'X1']  # those without an effect are last
  click(page, '[data-key=effect]')
  assert shown(page) == ['T2a', 'T1', 'W9b', 'T2', 'U1', 'T3', 'X1']
  assert every(page, 'th[aria-sort]')[0].get_attribute('aria-sort') == 'descending'
  click(
    page, '[data-key=verdict]', '[data-key=verdict]', 'input[value=supported]', 'input[value=contradicted]'
  )
  assert shown(page) == ['T2', 'U1', 'T1', 'T2a', 'W9b']


def test_an_address_opens_a_row_or_a_view(page):
  address = page.current_url
  page.get(f'{address}#T2a')
  assert every(page, '#T2a details[open]')
  page.get(f'{address}#sort=effect&verdict=supported')
  assert shown(page) == ['T1', 'W9b', 'T2a']
  page.get(f'{address}#U1')  # which that view hides
  assert shown(page) == EVERY
  page.get(f'{address}#%')
  assert shown(page) == EVERY


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [400, 1150])
def test_is_as_wide_as_the_window_and_can_be_read(page, width, scheme):
  size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': False}
  page.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
  media = {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}
  page.execute_cdp_cmd('Emulation.setEmulatedMedia', media)
  page.execute_script('for (const each of document.querySelectorAll("details")) each.open = true')
  root = 'const root = document.documentElement; return [innerWidth, root.scrollWidth - root.clientWidth]'
  assert page.execute_script(root) == [width, 0]
  cells = "document.querySelectorAll('#claims td')"
  over = f'return [...{cells}].filter(cell => cell.scrollWidth > cell.clientWidth).length'
  page.execute_script('for (const each of document.querySelectorAll("details")) each.open = false')
  assert page.execute_script(over) == 0
  colors = 'const look = getComputedStyle(document.body); return [look.color, look.backgroundColor]'
  ink, back = (sum(map(int, color[4:-1].split(','))) / 765 for color in page.execute_script(colors))
  assert ink - back > 0.7 if scheme == 'dark' else back - ink > 0.7
