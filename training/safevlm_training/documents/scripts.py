"""Writing in scripts other than Latin, drawn letter by letter without a shaping engine."""

from __future__ import annotations

import re
import unicodedata
import zlib

_LATIN = "abcdefghijklmnopqrstuvwxyz"
_LETTERS = {
    "cyrillic": "абцдефгхийклмнопкрстуввкыз",
    "greek": "αβψδεφγηιξκλμνοπκρστυβωχυζ",
}
_WORDS = {
    "arabic": "سلام نور بيت كتاب مدينة قلم شمس قمر باب نهر جبل سعيد كريم ليلى سامي هدى ناصر زيتون بستان رقم تاريخ",
    "hebrew": "שלום אור בית ספר עיר עט שמש ירח דלת נהר הר דוד נועה רחל יוסף תמר אילן כרמל משרד מספר תאריך מקום",
    "devanagari": "राम नगर कमल सागर गगन पवन आकाश तारा माला राजा शाम भारत नदी घर फल वन सरल गीता सीता मोहन नाम तारीख",
    "thai": "บ้าน เมือง แม่น้ำ ภูเขา ดาว จันทร์ ฟ้า ทะเล สวน นาม เลข วันที่ สมชาย มานี ชูใจ ปิติ วีระ ถนน ตลาด ครู",
    "chinese": "张伟 王芳 李明 刘洋 陈静 杨帆 北山 东海 中心 大学 市民 公司 银河 青云 长安 日期 姓名 号码 地址 花园",
    "japanese": "佐藤 鈴木 高橋 たなか さくら みどり ヤマト カエデ 中央 東町 西川 大学 会社 氏名 番号 住所 日付",
    "korean": "김민 이서 박준 최윤 정하 한강 서울 바다 하늘 나무 구름 대학 회사 이름 번호 주소 날짜 시장 다리 공원",
}
SCRIPTS = ("latin", *_LETTERS, *_WORDS)
TIGHT = frozenset({"chinese", "japanese"})
"""Scripts that put no space between words."""
FROM_THE_RIGHT = frozenset({"arabic", "hebrew"})


def in_script(text: str, script: str) -> str:
    """Replace Latin words by words of another script, always the same ones, in the order in which they are drawn."""
    if script == "latin":
        return text
    if script in _LETTERS:
        table = dict(zip(_LATIN, _LETTERS[script], strict=True))
        return "".join(
            table[letter.lower()].upper() if letter.isupper() else table.get(letter, letter) for letter in text
        )
    words = _WORDS[script].split()
    changed = re.sub(r"[A-Za-z']+", lambda found: words[zlib.crc32(found[0].lower().encode()) % len(words)], text)
    if script in TIGHT:
        return re.sub(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])", "", changed)
    return visual_order(changed) if script in FROM_THE_RIGHT else changed


def sample_of(script: str) -> str:
    """Give the letters that a face must have before it may write a script."""
    if script == "latin":
        return "aRz27<"
    if script in _LETTERS:
        return _LETTERS[script][::6]
    drawn = visual_order(_WORDS[script]) if script in FROM_THE_RIGHT else _WORDS[script]
    return "".join(sorted({letter for letter in drawn if unicodedata.category(letter) == "Lo"}))


def visual_order(text: str) -> str:
    """Put a line into the order in which it is seen from the left; numbers keep theirs."""
    pieces = re.findall(r"[^\x00-\x7f]+|[\x21-\x7f]+|\s+", text)
    return "".join(_joined(piece)[::-1] if ord(piece[0]) > 0x7F else piece for piece in reversed(pieces))


def _joined(word: str) -> str:
    """Choose the form of each Arabic letter by its neighbours; letters of other scripts have one form."""
    forms = _FORMS
    shaped = []
    for place, letter in enumerate(word):
        before, after = word[place - 1 : place], word[place + 1 : place + 2]
        tied = (before, "initial") in forms and (letter, "final") in forms
        ties = (letter, "initial") in forms and (after, "final") in forms
        form = {(False, False): "isolated", (True, False): "final", (False, True): "initial", (True, True): "medial"}
        shaped.append(forms.get((letter, form[tied, ties]), letter))
    return "".join(shaped)


def _arabic_forms() -> dict[tuple[str, str], str]:
    """Read from the Unicode database which presentation form belongs to which letter."""
    forms = {}
    for code in range(0xFE80, 0xFEF5):
        kind, _, letter = unicodedata.decomposition(chr(code)).partition(" ")
        forms[chr(int(letter, 16)), kind.strip("<>")] = chr(code)
    return forms


_FORMS = _arabic_forms()
