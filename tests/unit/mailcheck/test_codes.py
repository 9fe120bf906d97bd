"""What a code looks like, and what it is told as."""

import time

import pytest

from huahuo.mailcheck.codes.announcing import announced
from huahuo.mailcheck.codes.finding import CONFIDENCE_MIN, code_of, find_code
from huahuo.mailcheck.codes.words import tokens_of
from huahuo.mailcheck.mime.shown import TEXT_CHARS_MAX

type Mails = list[tuple[str, str]]


def mails(subject: str, *texts: str) -> Mails:
    """Mails with one subject."""
    return [(subject, text) for text in texts]


TOLD: dict[str, tuple[str, Mails]] = {
    "an order to enter a number announces it in a mail about signing in": (
        "482913",
        mails(
            "Hello",
            "To sign in, enter 482913 now.",
            "Zum Anmelden geben Sie 482913 ein.",
            "ログインするには 482913 を入力",
        ),
    ),
    "digits that are not the last ones of a number announce a code": (
        "482913",
        mails("Sign in", "下記の6桁の番号 482913", "请输入6位数字 482913", "The 6 digits 482913"),
    ),
    "a code is found by what the mail asks for though its usual name is missing": (
        "482913",
        [
            (
                "One more step",
                "Type the numbers below on the screen you left open:\n\n482913\n\nDidn't start this?",
            ),
            ("Confirma que eres tú", "Si eres tú, escribe 482-913 en la pantalla."),
            ("Это вы входите?", "Если это вы, введите на сайте 482 913."),
            ("Anmelden", "Dein Zahlencode: 482913"),
            ("您的账号", "請輸入安全代碼:482913"),
            (
                "482913 - account recovery",
                "You told us you lost your password. The digits are in the subject.",
            ),
            ("Confirm your address", "Pop this in on our site - 482913 - and we'll know it's you."),
            ("Freigabe", "Freigabecode für diesen Auftrag: 482913"),
            ("Sign in", "Your code\n4\n8\n2\n9\n1\n3\nends soon"),
        ],
    ),
    "a code in the subject alone is found": (
        "482913",
        [("482913 is your verification code", "See the subject.")],
    ),
    "what follows a comma is no part of a code where a script has no blanks": (
        "482913",
        mails(
            "登录",
            "您正在登录控制台,验证码482913,5分钟内有效。",
            "ログイン認証コード482913,10分以内に入力してください。",
            "로그인 인증번호 482913,3분 안에 입력해 주세요.",
        ),
    ),
    "a code that holds no longer is not told": (
        "482913",
        mails(
            "Sign in",
            "Your previous verification code 771204 has expired. The new one is 482913.",
            "Ihr alter Bestätigungscode 771204 ist abgelaufen. Der neue Bestätigungscode lautet 482913.",
            "之前的验证码 771204 已失效,新的验证码是 482913。",
        ),
    ),
    "a number that is to be put in on a screen is a code though nothing names it": (
        "4820",
        mails(
            "Almost there",
            "Press 4820 in the app and the notebook opens.",
            "Drück 4820 in der App, dann geht es weiter.",
            "Appuie sur 4820 dans l'appli.",
            "Нажми 4820 в приложении, и тетрадь откроется.",
            "请把 4820 写进框里。",
            "画面の枠に 4820 と書いてください。",
            "앱에 4820 을 적어 주세요.",
        ),
    ),
    "what is to be pasted into a page is no phone number": (
        "29174635",
        mails(
            "Forgot your password? Mot de passe oublié",
            "Paste 29174635 in the window that you left open.",
            "Collez 29174635 dans la page restée ouverte.",
            "Pega 29174635 en la ventana abierta.",
            "Вставьте 29174635 в открытое окно.",
        ),
    ),
    "a number next to an order is a code if its sentence names where it is typed": (
        "41907",
        mails(
            "One more thing",
            "In der App 41907 eintippen, fertig.",
            "Dans l'appli, composez 41907 et l'enceinte est à vous.",
            "确认请在电视上按 41907 确认。",
            "確認のため 41907 をアプリで入力します。",
        ),
    ),
    "a number that is masked or to be called is no code beside one": (
        "482913",
        mails(
            "Confirm your sign-in",
            "Geben Sie auf der Seite 482913 an.",
            "Your new number ends in **** 2209. Key in 482913 in the app.",
            "휴대폰 0171 *** 2209 변경: 앱에 482913을 입력하세요. 문의는 1588-2209로 전화해 주세요.",
            "登録画面に 482913 と入力してください。ご不明な点は 1588-2209 までご連絡ください。",
            "签署页需要您提供\n\n482913",
        ),
    ),
    "groups below a line about a code are one": (
        "482913",
        mails("Sign in", "您的登录验证码为\n482\n913\n请勿泄露", "Your code:\n\n482\n\n913\n\nThanks"),
    ),
    "a word behind a code that begins as a unit makes no count of it": (
        "482913",
        mails(
            "登录", "验证码482913起5分钟内有效", "验证码：482913通过此码登录", "验证码 482913 通知：请勿泄露"
        ),
    ),
    "the code of a session is one": (
        "7714",
        [
            ("Session code BW-7714 for the console", "From 198.51.100.7."),
            ("Sitzungscode BW-7714 für die Verwaltung", "From 198.51.100.7."),
            ("Code de session BW-7714 pour l'administration", "From 198.51.100.7."),
            ("Código de sesión BW-7714 para administración", "From 198.51.100.7."),
            ("Код сеанса BW-7714 для администрирования", "From 198.51.100.7."),
            ("会话码 BW-7714", "From 198.51.100.7."),
            ("セッションコード BW-7714", "From 198.51.100.7."),
            ("세션 코드 BW-7714", "From 198.51.100.7."),
        ],
    ),
    "a name some words from a code announces it": (
        "482913",
        [
            ("Harbour: verify your device", "482913 is your Harbour code."),
            ("Your Harbour OTP", "Use this one-time password to log in: 482913. It was requested from Lyon."),
            ("Connexion", "Saisissez ce code temporaire pour vous connecter à votre compte : 482913."),
            ("Is this your new email?", "If it was you, confirm with code 482913."),
            ("Harbour code: 482913", "Your Harbour code is 482913."),
            ("予約サイト", "ログインするための暗証番号は 482913 です。"),
            ("機種変更", "アカウントを復旧するには 482913 を使ってください。"),
            ("헬스장 앱", "등록을 마치려면 482913 를 입력하세요."),
            ("Compra", "Autorícela con el código 482913 si es suya."),
        ],
    ),
}
NONE: dict[str, Mails] = {
    "an order about an amount or a year announces no code": mails(
        "Hello", "Sign in to use 4500 points.", "Log in and enter 2026 with 1200 others."
    ),
    "another number near the words is no code": mails(
        "Notice",
        "Your verification code was used on 2026-11-03 at 14:20.",
        "Verification code request for order 4829134",
        "Verification code help: call +1 415 555 0134",
        "Security code settings changed. You paid $4829 in 2026.",
        "Security code of your card *8812 was changed",
        "Use promo code 482913 to sign in and save",
        "Sign in with the link https://example.org/login?code=482913",
    ),
    "an address the end of a card and a phone are no code in a mail about signing in": mails(
        "New sign-in, Anmeldung, connexion, inicio de sesión, вход, 登录, ログイン",
        "San Francisco, CA, USA 94105",
        "Your card with the last four digits 4821",
        "die letzten vier Ziffern 4821",
        "quatre derniers chiffres 4821",
        "últimos cuatro dígitos 4821",
        "Последние цифры 4821",
        "后4位数字 4821",
        "尾号 4821",
        "下4桁の番号 4821",
        "Use 12345678 to contact us",
        "Use 482913 to contact us",
    ),
    "codes of meetings journeys vouchers and programs are none": [
        ("Webinar", "Sign in at 15:00. Meeting ID: 845 2231 9934\nPasscode: 771204"),
        ("Your stay", "Please verify your arrival. Confirmation number: R4K9Z2. Check-in 15:00."),
        ("Save 40%", "Enter code AUTUMN40 at checkout. Log in to redeem."),
        ("Verification failed", "Job 448213 exited with code 137. Sign in to see the log."),
        ("Konto", "Anmeldung mit Buchungscode QK7TZ4"),
        ("登录系统", "请登录,工号 208817"),
        ("アカウント", "ログイン。クーポンコード SAVE500"),
    ],
    "a mail without a word for a code has none": [("Lottery", "The numbers are\n\n482913\n\n")],
    "the number of a permit below a mail is no code": [
        ("登录提醒", "您的账号在新设备登录,请确认是本人。增值电信业务经营许可证:粤B2-20090059")
    ],
    "ordinary words that are like those of codes make no number a code": [
        ("Savings", "You put 5000 in the box on Monday. Sign in to see it."),
        ("Alphabet", "Learn 26 letters with 4820 other pupils. Sign in today."),
        ("API", "Your API access key AKIA48213 was rotated."),
        ("Old code is gone", "We removed 48213 lines of old code. Sign in to see the diff."),
        ("Rücksendung", "Geben Sie die Retoure 4820417 in der Filiale ab."),
    ],
    "the code of an invitation or a gift is none": [
        ("Invita y gana", "Comparte tu código de invitación KQ4829 y gana 10 € por cada registro."),
        ("Parrainage", "Partagez votre code parrain KQ4829 et recevez 10 € pour chaque inscription."),
        ("特典コードのお知らせ", "ゲーム内で特典コード「HW2KQ7TX」を入力するとアイテムがもらえます。"),
    ],
    "a number that is a tickets elsewhere in the mail is no code": [
        (
            "Incidencia 482913 registrada",
            "Le responderemos en 48 horas. Indique el número 482913 en sus comunicaciones.",
        )
    ],
    "a number to be called is no code": mails(
        "Confirm your sign-in",
        "본인이 아니면 1588-2209로 전화해 주세요.",
        "ご本人でない場合は 1588-2209 までご連絡ください。",
    ),
    "what a warning counts is no code": [
        ("Stay safe", "We never ask for your login code. We stopped 48213 scams in 2025.")
    ],
    "prices hours and scores on lines of their own are no groups of a code": mails(
        "Sign in",
        "Item\nPrice\n120\n350\nTotal\n470\nVerify your order by signing in.",
        "Confirm your reading. Your code for the meter:\n\nOpening times\n09\n17\n30\n",
        "Confirm your account to see this week's numbers:\n12\n34\n56\nGood luck",
        "Sign in to see the score\nTeam A\n102\n098\nTeam B",
        "Your appointment\n10\n30\n45\nConfirm by code",
    ),
    "calls and cases that were counted are no codes": [
        ("登录提醒", "本月拦截 48213 起诈骗、48217 通电话，请勿泄露验证码")
    ],
    "the code of a new bank is not that of a bank that sends one": [
        ("Bank", "Your new bank code is 370400. Sign in to online banking.")
    ],
    "the code of a customer is none": [
        ("Rechnung", "Bitte geben Sie den Kundencode 77120 bei der Überweisung an.")
    ],
    "the number of another thing is no code in a mail about signing in": [
        ("Tax form", "Sign in by Dec 31 to complete form W-8BEN. Your payee code is 551208. We keep 30%."),
        ("Booking", "Booking reference (PNR): K8Q2LM. Please verify names before travel."),
        ("[PLAT-20481] Login page rejects a valid OTP", "Anna changed the status to Done."),
        ("Review of login-otp requested on !2204", "Approve or comment."),
        ("Share your referral code", "Share your code JONAS2044. When they sign up, you both earn $20."),
        ("Login page", "The sign in code on line 4410 breaks."),
        ("Passcode screen", "Log in at 1280 × 720 to see the passcode."),
        ("TAN-Betrug", "Geben Sie Ihre TAN nie weiter! Sperrhotline 116 116."),
        ("密码修改成功", "您的账户 88201745 已修改登录密码。"),
        ("课程提醒", "教室代码 4410。内容:登录与验证码的实现。"),
    ],
}


@pytest.mark.parametrize("why", TOLD)
def test_a_code_is_told(why: str) -> None:
    told, sent = TOLD[why]
    for subject, text in sent:
        found = find_code(subject, text)
        assert (text, found and found.text) == (text, told)


@pytest.mark.parametrize("why", NONE)
def test_none_is_told(why: str) -> None:
    assert [text for subject, text in NONE[why] if find_code(subject, text)] == []


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("482913", "482913"),
        ("482 913", "482913"),
        ("482-913", "482913"),
        ("4 8 2 9 1 3", "482913"),
        ("４８２９１３", "482913"),
        ("G-482913", "482913"),
        ("WDJB-MJHT", "WDJB-MJHT"),
        ("K7M2QX", "K7M2QX"),
    ],
)
def test_a_code_is_told_as_it_is_typed(shown: str, told: str) -> None:
    found = find_code("Sign in", f"Your verification code: {shown}")

    assert found is not None
    assert found.text == told
    assert CONFIDENCE_MIN <= found.confidence <= 1


def test_many_orders_before_a_code_take_nothing_of_how_sure_it_is() -> None:
    said = "Your verification code is 482913"

    assert find_code("Sign in", "use enter insert " * 64 + "\n" + said) == find_code("Sign in", said)


def test_a_code_that_only_the_html_shows_is_found() -> None:
    markup = "<style>p{width:600px}</style><p>Your verification code</p><p><b>48</b><b>2913</b></p>"

    found = code_of("Welcome", "This mail needs HTML.", markup)

    assert found is not None
    assert found.text == "482913"


def test_text_beyond_the_bound_is_not_searched() -> None:
    assert find_code("Hello", "a " * (TEXT_CHARS_MAX // 2) + "your verification code: 482913") is None


@pytest.mark.parametrize(
    "text",
    [
        "<script" * 40_000,
        "<!--" * 60_000,
        "code " * 20_000 + "12345 " * 20_000,
        "." * 70_000 + " otp",
        "a-" * 40_000 + " otp 1",
    ],
)
def test_no_text_takes_long(text: str) -> None:
    before = time.process_time()

    code_of("verification code", text, text)

    assert time.process_time() - before < 2


def test_words_that_are_made_at_will_are_not_searched_one_by_one() -> None:
    class Counted(str):
        __slots__ = ()
        searches = 0

        def __contains__(self, word: object) -> bool:
            Counted.searches += 1
            return super().__contains__(word)  # type: ignore[operator]

    letters = "bdfghklmnprstvwz"
    words = [f"{a}o{b}a{c}code" for a in letters for b in letters for c in letters]
    lower = "sign in with " + " ".join(words)
    found = announced(Counted(lower), tokens_of(lower), []).found
    assert lower[found[0].start : found[0].end] == words[0]
    assert Counted.searches < len(words)


def test_what_a_mail_quotes_of_an_earlier_one_is_searched_only_if_the_rest_has_no_code() -> None:
    earlier = "> On Tuesday we wrote:\n> Your verification code is 771204.\n"
    quoted = "<blockquote><p>Your verification code is 771204.</p></blockquote>"

    for again in (
        code_of(
            "Re: locked out", f"The first one ran out. When the page asks, type 482913.\n\n{earlier}", ""
        ),
        code_of("Re: locked out", "", f"<p>When the page asks, type <b>482913</b>.</p>{quoted}"),
    ):
        assert again is not None
        assert again.text == "482913"
    for forwarded in (code_of("Fwd: this came for you", earlier, ""), code_of("Fwd: this came", "", quoted)):
        assert forwarded is not None
        assert forwarded.text == "771204"


def test_blocks_in_blocks_do_not_part_a_code_from_its_name() -> None:
    deep = "</div></td></tr></table></div><div><table><tr><td><div>"
    markup = (
        f"<div>Here is the code to sign in to your account:{deep}From Poland{deep}K7TPQ{deep}Thank you</div>"
    )

    found = code_of("New device", "", markup)

    assert found is not None
    assert found.text == "K7TPQ"


def test_a_year_that_no_mail_tells_of_may_be_a_code() -> None:
    text = "To make sure that our mails reach you, reply on the checkout page with {}."
    found = find_code("Guest order", text.format(2046))
    assert found is not None
    assert found.text == "2046"
    assert find_code("Guest order", text.format(2026)) is None


def test_a_code_may_have_a_line_or_a_cell_for_each_of_its_groups() -> None:
    for groups in ("730\n184", "7301\n1842", "73\n01\n84"):
        found = find_code("Sign in", f"Type the code below:\n\n{groups}\n\nIt expires soon.")
        assert found is not None
        assert found.text == groups.replace("\n", "")
    assert find_code("Sign in", "Your new report:\n120\n450\n760\nvisits, views, orders") is None


def test_a_bank_that_sends_a_code_makes_it_no_sort_code() -> None:
    found = find_code("Your Harbour Bank code is 482913", "Use it to finish signing in.")
    assert found is not None
    assert find_code("Sign in", "The bank code 482913 belongs to your account.") is None


def test_neither_a_labelled_cell_nor_a_voucher_for_the_next_order_is_a_code() -> None:
    rows = "<tr><td>Silla plegable</td></tr><tr><td>Ref.</td><td>448120</td></tr>"
    markup = f"<table>{rows}</table><p>Usa el código VERANO20 en tu próxima compra.</p>"

    assert code_of("Pedido confirmado", "", markup) is None
