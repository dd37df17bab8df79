"""Units, currencies, months and other tables that the rules read from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CODES", "CURRENCIES", "FRACTIONS", "MONTHS", "SCALES", "UNITS", "WEEKDAYS", "Currency", "Unit"]


@dataclass(frozen=True)
class Unit:
    """How a unit is read behind a number: one kilometer, two kilometers, 公里."""

    singular: str
    plural: str
    chinese: str
    per: str = ""
    """What the Chinese reading begins with: 每小时 for km/h."""


@dataclass(frozen=True)
class Currency:
    """How an amount is read: one dollar, two dollars and five cents, 美元."""

    singular: str
    plural: str
    chinese: str
    cent: str = ""
    cents: str = ""


_UNITS = """
km|kilometer||公里
m|meter||米
cm|centimeter||厘米
mm|millimeter||毫米
µm|micrometer||微米
μm|micrometer||微米
nm|nanometer||纳米
mi|mile||英里
ft|foot|feet|英尺
in.|inch|inches|英寸
yd|yard||码
kg|kilogram||千克
g|gram||克
mg|milligram||毫克
lb|pound||磅
lbs|pound||磅
oz|ounce||盎司
L|liter||升
l|liter||升
dl|deciliter||分升
ml|milliliter||毫升
mL|milliliter||毫升
tbsp.|tablespoon||汤匙
tbsp|tablespoon||汤匙
tsp.|teaspoon||茶匙
tsp|teaspoon||茶匙
s|second||秒
sec|second||秒
sec.|second||秒
ms|millisecond||毫秒
µs|microsecond||微秒
μs|microsecond||微秒
us|microsecond||微秒
ns|nanosecond||纳秒
min|minute||分钟
min.|minute||分钟
mins|minute||分钟
h|hour||小时
hr|hour||小时
hrs|hour||小时
Hz|hertz|hertz|赫兹
kHz|kilohertz|kilohertz|千赫兹
MHz|megahertz|megahertz|兆赫兹
GHz|gigahertz|gigahertz|吉赫兹
KB|kilobyte||k b
kB|kilobyte||k b
MB|megabyte||m b
GB|gigabyte||g b
TB|terabyte||t b
KiB|kibibyte||k b
MiB|mebibyte||m b
GiB|gibibyte||g b
Kbps|kilobit per second|kilobits per second|k b p s
kbps|kilobit per second|kilobits per second|k b p s
Mbps|megabit per second|megabits per second|m b p s
Gbps|gigabit per second|gigabits per second|g b p s
MB/s|megabyte per second|megabytes per second|兆字节|每秒
GB/s|gigabyte per second|gigabytes per second|吉字节|每秒
W|watt||瓦
kW|kilowatt||千瓦
MW|megawatt||兆瓦
mW|milliwatt||毫瓦
V|volt||伏
mV|millivolt||毫伏
kV|kilovolt||千伏
A|ampere||安
mA|milliampere||毫安
mAh|milliamp hour||毫安时
Ah|amp hour||安时
Wh|watt hour||瓦时
kWh|kilowatt hour||千瓦时
Ω|ohm||欧姆
kJ|kilojoule||千焦
kcal|kilocalorie||千卡
cal|calorie||卡
Pa|pascal||帕
kPa|kilopascal||千帕
hPa|hectopascal||百帕
psi|p s i|p s i|p s i
dB|decibel||分贝
°C|degree celsius|degrees celsius|摄氏度
° C|degree celsius|degrees celsius|摄氏度
℃|degree celsius|degrees celsius|摄氏度
°F|degree fahrenheit|degrees fahrenheit|华氏度
° F|degree fahrenheit|degrees fahrenheit|华氏度
℉|degree fahrenheit|degrees fahrenheit|华氏度
°|degree||度
%|percent|percent|%
％|percent|percent|%
‰|per mille|per mille|‰
mph|mile per hour|miles per hour|英里|每小时
km/h|kilometer per hour|kilometers per hour|公里|每小时
kmh|kilometer per hour|kilometers per hour|公里|每小时
kph|kilometer per hour|kilometers per hour|公里|每小时
m/s|meter per second|meters per second|米|每秒
m/s^2|meter per second squared|meters per second squared|米每二次方秒
m^2|square meter||平方米
m2|square meter||平方米
㎡|square meter||平方米
km^2|square kilometer||平方公里
km2|square kilometer||平方公里
cm^2|square centimeter||平方厘米
cm2|square centimeter||平方厘米
ft^2|square foot|square feet|平方英尺
sq ft|square foot|square feet|平方英尺
m^3|cubic meter||立方米
m3|cubic meter||立方米
cm^3|cubic centimeter||立方厘米
kg/m^3|kilogram per cubic meter|kilograms per cubic meter|千克每立方米
fps|frame per second|frames per second|帧|每秒
rpm|revolution per minute|revolutions per minute|转|每分钟
dpi|dot per inch|dots per inch|d p i
px|pixel||像素
"""


def _unit(line: str) -> tuple[str, Unit]:
    symbol, singular, plural, chinese, per = [*line.split("|"), ""][:5]
    return symbol, Unit(singular, plural or f"{singular}s", chinese, per)


UNITS = dict(_unit(line) for line in _UNITS.strip().splitlines())

_DOLLAR = Currency("dollar", "dollars", "美元", "cent", "cents")
CURRENCIES = {
    "$": _DOLLAR,
    "US$": Currency("u s dollar", "u s dollars", "美元", "cent", "cents"),
    "A$": Currency("australian dollar", "australian dollars", "澳元", "cent", "cents"),
    "C$": Currency("canadian dollar", "canadian dollars", "加元", "cent", "cents"),
    "HK$": Currency("hong kong dollar", "hong kong dollars", "港元", "cent", "cents"),
    "€": Currency("euro", "euros", "欧元", "cent", "cents"),
    "£": Currency("pound", "pounds", "英镑", "penny", "pence"),
    "¥": Currency("yen", "yen", "元"),
    "￥": Currency("yuan", "yuan", "元"),
    "Rs.": Currency("rupee", "rupees", "卢比"),
    "₹": Currency("rupee", "rupees", "卢比", "paisa", "paise"),
    "₩": Currency("won", "won", "韩元"),
    "₽": Currency("ruble", "rubles", "卢布"),
}
CODES = {
    "USD": CURRENCIES["US$"],
    "EUR": CURRENCIES["€"],
    "GBP": CURRENCIES["£"],
    "CNY": CURRENCIES["￥"],
    "RMB": CURRENCIES["￥"],
    "JPY": Currency("yen", "yen", "日元"),
    "HKD": CURRENCIES["HK$"],
}
SCALES = {
    "K": "thousand",
    "k": "thousand",
    "M": "million",
    "m": "million",
    "mn": "million",
    "B": "billion",
    "bn": "billion",
    "T": "trillion",
    "thousand": "thousand",
    "million": "million",
    "billion": "billion",
    "trillion": "trillion",
}
MONTHS = {
    name[:3].lower(): name.lower()
    for name in ("January February March April May June July August September October November December").split()
}
WEEKDAYS = {day[:3]: day for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")}
FRACTIONS = {
    "½": "1/2",
    "⅓": "1/3",
    "⅔": "2/3",
    "¼": "1/4",
    "¾": "3/4",
    "⅕": "1/5",
    "⅛": "1/8",
    "⅜": "3/8",
    "⅝": "5/8",
    "⅞": "7/8",
}
