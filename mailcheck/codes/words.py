"""What people write around a code: words, a file for each language in `languages`, and forms of sentences.

All words are in lower case. A `*` behind a word of `strong` stands for any ending.
"""

import json
import re
import unicodedata
from importlib.resources import files
from typing import Final

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


_LISTS: Final = _listed()

FROM: Final = _LISTS["from"]
"""Heads the first line of an earlier mail that is quoted."""
STRONG: Final = _LISTS["strong"]
"""A code is near."""
DOUBLE: Final = _LISTS["double"]
"""A code is near, except in mails about a meeting, a journey and the like (`ELSEWHERE`)."""
BOUGHT: Final = _LISTS["bought"]
"""A code is near, except in mails about something bought: a receipt has that of the bank."""
ONCE: Final = _LISTS["once"]
"""Said of what can be used once: it is a code, whatever noun follows."""
WEAK: Final = _LISTS["weak"]
"""A code is near if the mail is about signing in, or asks to enter it."""
CLOSE: Final = _LISTS["close"]
"""A code is directly next to it, in a mail about signing in."""
ATTACHED: Final = _LISTS["attached"]
"""What may stand directly before コード and 코드; else they are codes of another kind."""
YOURS: Final = _LISTS["yours"]
KINDS: Final = _LISTS["kinds"]
KINDS_WIDE: Final = _LISTS["kinds_wide"]
"""Beginnings of words that end in `COMPOUND_ENDS` or 码 and name no code."""
SIGN_IN: Final = _LISTS["sign_in"]
"""What a mail about signing in, or about approving something, says."""
TELLS: Final = _LISTS["tells"]
"""What mails with a code say besides: that it ends soon, is nobody else's business, or to be ignored."""
ENDS: Final = _LISTS["ends"]
"""Said of codes, and of vouchers and tickets too."""
ENTER: Final = _LISTS["enter"]
"""In a mail about signing in: a code if it follows at once, or stands alone on one of the next lines."""
PUT: Final = _LISTS["put"]
"""Before a number that is to be put in somewhere on a screen: `press 4820 in the app`."""
USE: Final = _LISTS["use"]
"""In a mail about signing in: a code if it follows at once."""
ASKS_AFTER: Final = _LISTS["asks_after"]
"""In a mail about signing in: a code if it stands directly before."""
ASKS: Final = _LISTS["asks"]
"""What one does with a code."""
SCREEN: Final = _LISTS["screen"]
"""Where something is typed: a screen, a part of one, or a machine that has one."""
TO_CONTACT: Final = _LISTS["to_contact"]
"""After a number that somebody is to use: it is a phone number."""
LAST: Final = _LISTS["last"]
LAST_WIDE: Final = _LISTS["last_wide"]
DIGITS: Final = _LISTS["digits"]
DIGITS_WIDE: Final = _LISTS["digits_wide"]
"""Before a weak word: another kind of code."""
NOT_BEFORE: Final = _LISTS["not_before"]
"""Before a weak word: another kind of code."""
NOT_AFTER: Final = _LISTS["not_after"]
"""After a weak word: another kind of code."""
PURPOSES: Final = frozenset(_LISTS["purposes"])
"""Between `your` and `code`: what one who signs in calls it. Others are codes of other things."""
LABELS: Final = _LISTS["labels"]
"""Directly before a number: it is something else."""
UNITS: Final = _LISTS["units"]
"""Directly after a number: it is an amount, a time or a year."""
ELSEWHERE: Final = _LISTS["elsewhere"]
"""What the mail is about instead: a meeting, a journey, a delivery, a discount, a door, a program."""
PAID: Final = _LISTS["paid"]
"""What a mail about a payment says."""
DEALS: Final = _LISTS["deals"]
"""What a mail with the number of something bought or arranged says."""
EXAMPLE: Final = _LISTS["example"]
"""Before a number: it is an example."""
FRAUD: Final = _LISTS["fraud"]
"""What a mail that warns of fraud is about."""
COPULAS: Final = _LISTS["is"]
"""Between a name and its code."""

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

LEADS: Final = r"\s*(?:[-:|·(,=]|\bis\b|\bist\b|\best\b|\bes\b|は|が|是|은|는|이|为|$|\n)"
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
        r"próxima compra|próximo pedido|следующ\w{2,3} (?:заказ|покупк)|下次|次回|다음 (?:주문|구매)"
    )
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
