"""The words that people write around a code, and the plain text that is searched for them. Pure.

Words come from a file for each language in `languages`, in lower case; a `*` behind a word of `strong`
stands for any ending. Links, addresses and what is quoted are taken out of the text. All in linear time.

| list | what its words say |
|---|---|
| `strong` | a code is near |
| `double` | the same, except in mails about a meeting, a journey and the like (`elsewhere`) |
| `bought` | the same, except in mails about something bought: a receipt has that of the bank |
| `once` | said of what can be used once: it is a code, whatever noun follows |
| `weak` | a code is near if the mail is about signing in, or asks to enter it |
| `close` | a code is directly next to it, in a mail about signing in |
| `is` | stands between a name and its code |
| `attached` | may stand directly before コード and 코드; else they are codes of another kind |
| `kinds`, `kinds_wide` | beginnings of words that end in `COMPOUND_ENDS` or 码 and name no code |
| `sign_in` | what a mail about signing in, or about approving something, says |
| `tells` | what mails with a code say besides: it ends soon, is nobody else's business, or to be ignored |
| `ends` | said of codes, and of vouchers and tickets too |
| `enter` | in a mail about signing in: a code if it follows at once, or is alone on one of the next lines |
| `put` | before a number that is to be put in somewhere on a screen: `press 4820 in the app` |
| `use` | in a mail about signing in: a code if it follows at once |
| `asks_after` | in a mail about signing in: a code if it stands directly before |
| `asks` | what one does with a code |
| `screen` | where something is typed: a screen, a part of one, or a machine that has one |
| `to_contact` | after a number that somebody is to use: it is a phone number |
| `last`, `last_wide`, `digits`, `digits_wide`, `not_before` | before a weak word: another kind of code |
| `not_after` | after a weak word: another kind of code |
| `purposes` | between `your` and `code`: what one who signs in calls it; others are codes of other things |
| `labels` | directly before a number: it is something else |
| `units` | directly after a number: it is an amount, a time or a year |
| `elsewhere` | what the mail is about instead: a meeting, a delivery, a discount, a door, a program |
| `journeys` | a journey or a stay: what the mail is about instead, unless it speaks of signing in |
| `paid`, `deals` | what mails about a payment say, and those with the number of something arranged |
| `example` | before a number: it is an example |
| `fraud` | what a mail that warns of fraud is about |
| `from` | heads the first line of an earlier mail that is quoted |
"""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from string import ascii_lowercase
from typing import Final, Literal

import msgspec

from huahuo.eventstore.fulltext.words import normalized
from huahuo.mailcheck.mime.shown import TEXT_CHARS_MAX

_SIMPLE: Final = str.maketrans(
    "碼驗證認動態啟號帳戶錄輸註數將請轉設綁臨時條優惠邀兌換貨郵單訂發電話會議編",
    "码验证认动态启号账户录输注数将请转设绑临时条优惠邀兑换货邮单订发电话会议编",
)


def simple(lower: str) -> str:
    """`lower` with simplified characters, where the lists below have traditional ones: one form is enough."""
    return lower.translate(_SIMPLE)


def _listed() -> dict[str, tuple[str, ...]]:
    """The words of all languages by what they say, as `plain` and `folded` have them."""
    lists: dict[str, dict[str, None]] = {}
    for path in sorted(files("huahuo.mailcheck.codes").joinpath("languages").iterdir(), key=str):
        for name, words in json.loads(path.read_text(encoding="utf-8")).items():
            shown = (simple(unicodedata.normalize("NFKC", word)) for word in words)
            lists.setdefault(name, {}).update(dict.fromkeys(shown))
    return {name: tuple(words) for name, words in lists.items()}


WORDS: Final = _listed()


COMPOUND_ENDS: Final = ("code", "pin", "tan", "ziffern", "passwort", "kennwort")
"""Of words that are made at will, `Zahlencode`: weak ones, unless their beginning names another kind."""

ON_SCREEN: Final = (
    r"\s(?:in|into|on|im|ins|auf|dans|sur|en|na|в|на)\s(?:[^\W\d_]+['’ ]){0,2}"
    r"(?:app|application|appli|screen|page|window|field|box|browser|tablet|tv|phone|site|website|form|dialog|device|watch|terminal|station|machine|"
    r"bildschirm|seite|fenster|feld|handy|gerät|fernseher|uhr|säule|automaten|écran|montre|borne|fenêtre|champ|case|navigateur|téléphone|télé|"
    r"aplicación|pantalla|página|ventana|campo|casilla|navegador|teléfono|móvil|tele|reloj|dispositivo|"
    r"приложении|экране|странице|окне|окошке|поле|браузере|телефоне|сайте|телевизоре|станции|терминале|часах|устройстве)\s"
)
"""After an order: where on a screen it is to be done."""

FILLERS: Final = (
    r"(?:[^\w.!?]{0,6}(?:please|bitte|por favor|el número|le numéro|d(?:ie|er) (?:nummer|zahl)|dem code|"
    r"номер|the|these|this|in|below|now|number|les chiffres|le|la|el|"
    r"los dígitos|число|числа|цифры|пароль|код|key|pin|password|numbers|digits)?){0,2}[^\w.!?]{0,6}"
)
"""What may stand between an order and its number."""

LEADS: Final = (
    r"\s*(?:[-:|·(,=]|\bis\b|\bist\b|\best\b|\bes\b|は|が|是|은|는|이|为|$|\n"
    r"|\bto (?:sign|log|get|finish|confirm|verif|open|unlock)|"
    r"\bpara (?:entrar|acceder|iniciar|confirmar|verificar|terminar)"
    r"|\bpour (?:vous connecter|se connecter|te connecter|confirmer|valider|entrer|vérifier)"
    r"|\b(?:zum|zur) (?:anmeld|einlogg|bestätig)|\bдля (?:вход|подтвержд|авториз)"
    r"|\bper (?:accedere|entrare|confermare))"
)
"""After a number with which the subject begins, if the subject is about it: `482913 - your account`."""

SOON: Final = re.compile(
    simple(
        r"minut|hour|noon|midday|quarter of an|before|until|\blast|expire|\bonce|\bsoon|stund|viertel|mittag|"
        r"ablauf|einmal|heure|midi|avant|bientôt|\bhora|mediodía|antes|час|полуд|до \d|分钟|小时|一刻|作废|"
        r"失效|中午|分|まで|過ぎ|時間|昼|분|까지|지나|정오|시간"
    )
)
"""How long something holds."""

AGREE: Final = re.compile(
    simple(
        r"\byou\b.{0,20}\?|is(?:n't| not) you|prove|trust|hold|approve|agree|release|happy with|"
        r"\bdu\b.{0,12}\?|sie es|gehör|einverstand|zeigen sie|grünes licht|c'est (?:toi|vous|bien)|d'accord|"
        r"vôtre|feu vert|eres tú|de acuerdo|es tuya|luz verde|это (?:ты|вы)|согла|ваш адрес|добро|"
        r"是您|同意|归您|本人|放行|点头|あなた|よければ|証し|본인|동의|괜찮|좋다면|주인"
    )
)
"""Whether it is you, and whether you agree."""

POSTAL: Final = re.compile(
    simple(
        r"street|road|\bst\b|\bbox|straße|\brue\b|calle|ул\.|路|号|〒|p\.o|gmbh|\bltd|\binc\b|s\.l|sarl|ооо|оао|"
        r"公司|株式|\(주\)"
    )
)
"""An address, or a company's number."""

OFFER: Final = re.compile(
    simple(
        r"\bearn\b|\bsave\b|\brefer\b|\breward|\bgift|\bfree\b|\bbonus|\d ?% |gewinn|\bspar(?:en|e|st)\b|"
        r"gratis|geschenk|prämie|gagne|parrain|cadeau|offert|recevez|\bgana\b|gane\b|regalo|ahorra|invita y|"
        r"скидк|бонус|подар|акци|приведи|奖励|福利|礼包|优惠|立减|赠送|特典|もらえ|プレゼント|割引|オフ|혜택|적립|할인|이벤트|선물|"
        r"\bnext (?:order|purchase)|nächste[nr]? (?:bestellung|einkauf)|prochaine? (?:commande|achat)|"
        r"próxima compra|próximo pedido|следующ\w{2,3} (?:заказ|покупк)|下次|次回|다음 (?:주문|구매)|"
    )
    + "|".join(map(re.escape, WORDS["offer"]))
)
"""What is to be had or saved: there codes are those of vouchers."""

WON: Final = re.compile(
    simple(
        r"lotter|\bdraw\b|raffle|jackpot|winning|prize|lotto|ziehung|gewinn|loterie|tirage|gagnant|lotería|sorteo|"
        r"premi[ao]d|лотере|розыгрыш|выигр|彩票|开奖|中奖|宝くじ|抽せん|抽選|当せん|복권|추첨|당첨|"
        r"queue|warteschlange|wartenummer|d'attente|очеред|排队|順番|대기 번호|"
        r"steps|schritte|\bpasos|\d\s{1,4}pas\b|шагов|歩数|\d\s{0,4}[步歩]|걸음"
    )
)
"""Numbers that are drawn, queued for or counted."""

IS: Final = re.compile(r"(?:\b(?:is|are|ist|lautet|lauten|est|sont|es|son|это)|[是为はは은는이])\W{0,3}$")

WITH: Final = re.compile(r"\b(?:with|by|mit|avec|con|числом|цифрами|кодом)\s?$|[用凭]\s?$")
"""Directly before a number that one answers with."""

MADE_WIDE: Final = re.compile(
    simple(
        r"(?:登录|登入|登陆|会话|验证|校验|核验|核实|动态|一次性|临时|身份|鉴权|短信|重置|重设|找回|解锁|提现|提币|转账){1,2}(?:用的?|所需的?|所用的?)?"
        r"(?:码|密码|口令|代码|数字|密令|暗号|字符|凭码)"
        r"|(?:認証|ログイン|サインイン|セッション|ワンタイム|仮|一時|本人確認|検証|二段階|再設定|リセット|出金|送金|連携|ペアリング|署名者?){1,2}"
        r"(?:用の?|の|(?:する|の)ための|に必要な)?"
        r"(?:コード|(?:暗証)?番号|パスワード|キー|pin|ピン|ナンバー|トークン|数字|暗号)"
        r"|(?:(?:인증|로그인|세션|일회용|일회성|임시|본인 ?확인|보안|접속|재설정|초기화|출금|송금|서명)용? ?)"
        r"{1,2}"
        r"(?:(?:하기|를|을)? ?위한 ?|에 필요한 ?)?"
        r"(?:번호|코드|비밀번호|숫자|문자열?|키|pin|토큰)"
        r"|확인용? ?(?:숫자|문자열?|코드)"
    )
)
"""Of scripts without, in simplified characters: `folded` has them so."""

ASKED_AFTER: Final = re.compile(
    r"を[^。、.\n0-9を]{0,16}?(?:入力|記入|打ち込|貼り付け|入れて|お?使(?:って|い|用)|ご?利用)"
    r"|[을를](?:\([을를]\))? ?[^.,\n0-9을를]{0,16}?(?:입력|넣어|넣으|적어|기입|붙여|사용|이용)"
)
"""After a number, what is to be done with it: `482913をアプリの画面に入力`."""

PUT_IN_WIDE: Final = re.compile(
    simple(
        r"(?<=[にで])\s?[0-9][0-9 -]{2,10}[」\"]?\s?"
        r"(?P<ja>[をと]\s?(?:ご?入力|ご?記入|お?書|お?打|お?伝|お?答|押|入れ))"
        r"|[0-9][0-9 -]{2,10}[」\"]?\s?(?P<says>と\s?(?:ご?入力|お?書|お?打|お?伝|お?答|ご?返信))"
        r"|[0-9][0-9 -]{2,10}\s?(?P<to>をアプリ[にへ]|を画面[にへ])"
        r"|(?<=에)(?:게|서)?\s?[0-9][0-9 -]{2,10}\"?\s?"
        r"(?P<ko>(?:[을를](?:\([을를]\))?|이?라고|으?로)?\s?(?:입력|써|쓰|적|넣|눌|누르|치|말|알려|답))"
        r"|[0-9][0-9 -]{2,10}\"?\s?(?P<called>이?라고\s?(?:입력|써|쓰|적|치|말|알려|답|보내))"
        r"|(?:把|将)\s?[0-9][0-9 -]{2,10}\s?"
        r"(?P<zh>(?:这\S{0,6})?\s?(?:写|填|输|敲|打|抄|回复|回给|告诉|告知|报给|念给|粘))"
        r"|(?:敲|输入?|填入?|请回复?|按下?|写上)\s?[0-9][0-9 -]{2,10}"
        r"(?P<end>\s?(?:[,.;!]|就|即|确认|完成|继续|来|$))"
    )
)
"""A number that is to be put in somewhere: `画面に 4820 と打って`."""

_WIDE = re.compile(r"[\u0e00-\u0e7f⺀-\U0010ffff]")

type Kind = Literal["near", "close", "enter", "use", "after"]
TOKEN = re.compile(r"[^\W\d_\u0e00-\u0e7f⺀-\U0010ffff]+")
"""A word of a script with blanks between words."""
_PLACES_MAX = 100
"""Of one word. What announces a code stands near the beginning, and few places count."""
PLACES_MAX = 600
"""Of a list of words, or of a form of them."""
_LETTERS = bytes(code if chr(code) in ascii_lowercase else ord(" ") for code in range(256))
"""Blanks for all else: ten times as fast as an expression."""


class Announcement(msgspec.Struct, frozen=True, gc=False):
    """Where a word stands, and how surely a number next to it is a code."""

    start: int
    end: int
    worth: float
    kind: Kind = "near"
    """A name is near its code, a word for a password close to it; what an order is about stands beside it, or
    alone on a line below."""


class Names:
    """Words to look for in texts: those with blanks around by their first part, the others one by one."""

    def __init__(self, words: tuple[str, ...], worth: float, kind: Kind = "near") -> None:
        self._worth, self._kind = worth, kind
        self._by_first: dict[str, list[str]] = defaultdict(list)
        self._wide = tuple(word for word in words if not TOKEN.match(word))
        for word in words:
            first = TOKEN.match(word)
            if first:
                self._by_first[first[0]].append(word)

    def places(self, lower: str, tokens: set[str], *, wide: bool) -> list[Announcement]:
        """Where they first stand in a text with these `tokens`, with wide scripts or not."""
        words = [word for first in sorted(self._by_first.keys() & tokens) for word in self._by_first[first]]
        found = (
            Announcement(at, end, self._worth, self._kind)
            for word in (*words, *(self._wide if wide else ()))
            if word.removesuffix("*") in lower
            for at, end in islice(_places(lower, word), _PLACES_MAX)
        )
        return list(islice(found, PLACES_MAX))


def tokens_of(lower: str) -> set[str]:
    """The words of a text in lower case, as `Names.places` takes them."""
    if lower.isascii():
        return set(lower.encode("ascii").translate(_LETTERS).decode("ascii").split())
    return set(TOKEN.findall(lower))


def has_wide(text: str) -> bool:
    """Whether it has characters of a script without blanks between words."""
    return not text.isascii() and _WIDE.search(text) is not None


def is_wide(char: str) -> bool:
    """Whether it is of a script without blanks between words."""
    return char >= "⺀" or "\u0e00" <= char <= "\u0e7f"


def _places(lower: str, word: str) -> Iterator[tuple[int, int]]:
    """Where `word` stands as a word of its own; languages without blanks have no such bounds."""
    bound, has_endings = not is_wide(word[0]), word.endswith("*")
    word = word.removesuffix("*")
    at = lower.find(word)
    while at >= 0:
        end = at + len(word)
        ending = TOKEN.match(lower, end) if has_endings else None
        end = ending.end() if ending else end
        before, after = lower[at - 1 : at], lower[end : end + 1]
        if not bound or not (_joins(before) or _joins(after)):
            yield at, end
        at = lower.find(word, end)


def _joins(char: str) -> bool:
    """Whether a letter next to a word makes it a part of a longer one."""
    return char.isalpha() and not is_wide(char)


_LINK = re.compile(r"(?:https?://|www\.)[!-;=?-~]+", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_EARLIER = re.compile(
    r"^ ?[-_*=]{3,40} ?[^\W\d_][^\n]{2,40}[^\W\d_] ?[-_*=]{3,40} ?$"
    r"|^(?=[^\n]{0,200}\d{1,2}[:.]\d\d)(?=[^\n]{0,200}<[^\n<>]{1,100}@)[^\n]{8,300}[:\uff1a] ?\n(?!\n? ?>)"
    rf"|^ ?(?:{'|'.join(WORDS['from'])}) ?[:\uff1a][^\n]+\n"
    r"(?: ?[^\n:\uff1a]{1,24}[:\uff1a][^\n]*(?:\n|\Z)){2}",
    re.MULTILINE | re.IGNORECASE,
)
"""`--- Original Message ---`, `On …, at 10:02, Support <…> wrote:` or `From: …` with two more headers.

What was written before follows. Where lines with `>` follow, these alone are left out.
"""
_DIGITS = re.compile(r"(?![0-9])\d")
_MARKS = re.compile(r"^(?:> ?)+", re.MULTILINE)
_BLANKS = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_CELLS = re.compile(r"(?<![^\n])[ ]?[0-9A-Z](?:[^\S\n]{0,8}\n\s{0,8}[0-9A-Z]){3,7}(?=\s*(?:\n|$))")
"""A code with a line, or a cell of a table, for each of its characters."""
_CELL = re.compile(r"\n\s{0,8}[0-9A-Z]\s{0,8}\n")
_LINE_OF_DIGITS = re.compile(r"\n ?[0-9]{2,4}[^\S\n]{0,8}\n")
_GROUP_CELLS = re.compile(
    r"(?<![0-9 ]\n)(?<![^\n])[ ]?(?:[0-9]{3}(?:[^\S\n]{0,8}\n\s{0,8}[0-9]{3})|"
    r"[0-9]{4}(?:[^\S\n]{0,8}\n\s{0,8}[0-9]{4})|[0-9]{2}(?:[^\S\n]{0,8}\n\s{0,8}[0-9]{2}){2})"
    r"(?=[^\S\n]{0,8}(?:\n\s{0,8}[^\s0-9]|\n?$))"
)
"""One with a line, or a cell of a table, for each of its groups; or prices, hours, scores, lengths."""
_LINE_CHARS = 120
_GROUPS_OF_CODE = re.compile(
    r"code|pin\b|otp\b|password|digits|figures|stellig|자리|位|桁|haneli|cyfr|"
    r"cijfers|siffr|číslic|ψηφί|chữ số|kennwort|passwort|ziffern|zahlen|mot de passe|chiffres|código|clave|"
    r"contraseña|cifras|dígitos|код|парол|цифр|码|碼|口令|数字|コード|番号|パスワード|코드|번호|숫자|암호",
    re.IGNORECASE,
)
"""In the line directly before such groups."""
_SPACED = str.maketrans(
    {
        "，": ", ", "。": ". ", "、": ", ", "；": "; ", "：": ": ", "！": "! ", "？": "? ",
        "（": " (", "）": ") ",
        "【": " [", "】": "] ", "「": ' "', "」": '" ', "『": ' "', "』": '" ', "“": ' "', "”": '" ',
        "«": ' "',
        "»": '" ', "„": ' "', "–": "-", "—": "-", "‐": "-", "‑": "-", "－": "-", "−": "-", "İ": "I",
        "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\u00ad": "",
        "\r": "\n",
    }
)  # fmt: skip
"""Wide punctuation gets the space that it contains, else `482913，10` were one number."""


def own_words(text: str) -> str:
    """`text` without what it quotes of an earlier mail, or passes on."""
    shown = text[:TEXT_CHARS_MAX]
    begun = _EARLIER.search(shown) if "\n" in shown else None
    if begun:
        shown = shown[: begun.start()]
    elif "\n>" not in shown:
        return shown
    return "\n".join(line for line in shown.split("\n") if not line.startswith(">"))


def plain(text: str) -> str:
    """`text` with narrow digits, one blank between words, and neither links nor addresses."""
    shown = text[:TEXT_CHARS_MAX]
    if ">" in shown:
        shown = _MARKS.sub("", shown)
    if shown.isascii():
        shown = shown.replace("\r", "\n")
    else:
        shown = _DIGITS.sub(_of_ascii, normalized(shown.translate(_SPACED))[:TEXT_CHARS_MAX])
    if "://" in shown or "ww" in shown or "WW" in shown:
        shown = _LINK.sub(" ", shown)
    if "@" in shown:
        shown = _ADDRESS.sub(" ", shown)
    if "  " in shown or "\t" in shown or not shown.isascii():
        shown = _BLANKS.sub(" ", shown)
    if _LINE_OF_DIGITS.search(shown):
        shown = _GROUP_CELLS.sub(_joined, shown)
    if not _CELL.search(shown):
        return shown
    return _CELLS.sub(lambda cells: "".join(cells[0].split()), shown)


def _of_ascii(digit: re.Match[str]) -> str:
    return str(unicodedata.digit(digit[0]))


def _joined(cells: re.Match[str]) -> str:
    """The groups of a code on one line, if the line before says that it is one or there is none before."""
    before = cells.string[max(0, cells.start() - _LINE_CHARS) : cells.start()].rstrip()
    if before and _GROUPS_OF_CODE.search(before.rpartition("\n")[2]) is None:
        return cells[0]
    return " ".join(cells[0].split())


def folded(shown: str) -> str:
    """`shown` as the lists of words have it: in lower case and simplified characters, at the same places."""
    lower = shown.lower()
    if lower.isascii():
        return lower
    if len(lower) != len(shown):  # a letter whose small form is longer
        lower = "".join(char.lower() if len(char.lower()) == 1 else char for char in shown)
    return simple(lower)
