"""What a code looks like, and what it is told as."""

import time

import pytest

from huahuo.mailcheck.codes.announcing import announced
from huahuo.mailcheck.codes.finding import CONFIDENCE_MIN, code_of, find_code
from huahuo.mailcheck.codes.words import tokens_of
from huahuo.mailcheck.mime.shown import TEXT_CHARS_MAX


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


@pytest.mark.parametrize(
    "text",
    ["To sign in, enter 482913 now.", "Zum Anmelden geben Sie 482913 ein.", "ログインするには 482913 を入力"],
)
def test_an_order_to_enter_a_number_announces_it_in_a_mail_about_signing_in(text: str) -> None:
    found = find_code("Hello", text)

    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize("text", ["Sign in to use 4500 points.", "Log in and enter 2026 with 1200 others."])
def test_an_order_about_an_amount_or_a_year_announces_no_code(text: str) -> None:
    assert find_code("Hello", text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Your verification code was used on 2026-11-03 at 14:20.",
        "Verification code request for order 4829134",
        "Verification code help: call +1 415 555 0134",
        "Security code settings changed. You paid $4829 in 2026.",
        "Security code of your card *8812 was changed",
        "Use promo code 482913 to sign in and save",
        "Sign in with the link https://example.org/login?code=482913",
    ],
)
def test_another_number_near_the_words_is_no_code(text: str) -> None:
    assert find_code("Notice", text) is None


@pytest.mark.parametrize(
    "text",
    [
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
    ],
)
def test_an_address_the_end_of_a_card_and_a_phone_are_no_code_in_a_mail_about_signing_in(text: str) -> None:
    assert (
        find_code("New sign-in, Anmeldung, connexion, inicio de sesión, вход, 登录, ログイン", text) is None
    )


@pytest.mark.parametrize("text", ["下記の6桁の番号 482913", "请输入6位数字 482913", "The 6 digits 482913"])
def test_digits_that_are_not_the_last_ones_of_a_number_announce_a_code(text: str) -> None:
    found = find_code("Sign in", text)

    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (
            "One more step",
            "Type the numbers below on the screen you left open:\n\n482913\n\nDidn't start this?",
        ),
        ("Confirma que eres tú", "Si eres tú, escribe 482-913 en la pantalla."),
        ("Это вы входите?", "Если это вы, введите на сайте 482 913."),
        ("Anmelden", "Dein Zahlencode: 482913"),
        ("您的账号", "請輸入安全代碼:482913"),
        ("482913 - account recovery", "You told us you lost your password. The digits are in the subject."),
        ("Confirm your address", "Pop this in on our site - 482913 - and we'll know it's you."),
        ("Freigabe", "Freigabecode für diesen Auftrag: 482913"),
        ("Sign in", "Your code\n4\n8\n2\n9\n1\n3\nends soon"),
    ],
)
def test_a_code_is_found_by_what_the_mail_asks_for_though_its_usual_name_is_missing(
    subject: str, text: str
) -> None:
    found = find_code(subject, text)

    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Webinar", "Sign in at 15:00. Meeting ID: 845 2231 9934\nPasscode: 771204"),
        ("Your stay", "Please verify your arrival. Confirmation number: R4K9Z2. Check-in 15:00."),
        ("Save 40%", "Enter code AUTUMN40 at checkout. Log in to redeem."),
        ("Verification failed", "Job 448213 exited with code 137. Sign in to see the log."),
        ("Konto", "Anmeldung mit Buchungscode QK7TZ4"),
        ("登录系统", "请登录,工号 208817"),
        ("アカウント", "ログイン。クーポンコード SAVE500"),
    ],
)
def test_codes_of_meetings_journeys_vouchers_and_programs_are_none(subject: str, text: str) -> None:
    assert find_code(subject, text) is None


def test_many_orders_before_a_code_take_nothing_of_how_sure_it_is() -> None:
    said = "Your verification code is 482913"

    assert find_code("Sign in", "use enter insert " * 64 + "\n" + said) == find_code("Sign in", said)


def test_a_code_in_the_subject_alone_is_found() -> None:
    found = find_code("482913 is your verification code", "See the subject.")

    assert found is not None
    assert found.text == "482913"


def test_a_code_that_only_the_html_shows_is_found() -> None:
    markup = "<style>p{width:600px}</style><p>Your verification code</p><p><b>48</b><b>2913</b></p>"

    found = code_of("Welcome", "This mail needs HTML.", markup)

    assert found is not None
    assert found.text == "482913"


def test_a_mail_without_a_word_for_a_code_has_none() -> None:
    assert find_code("Lottery", "The numbers are\n\n482913\n\n") is None


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


@pytest.mark.parametrize(
    "text",
    [
        "您正在登录控制台,验证码482913,5分钟内有效。",
        "ログイン認証コード482913,10分以内に入力してください。",
        "로그인 인증번호 482913,3분 안에 입력해 주세요.",
    ],
)
def test_what_follows_a_comma_is_no_part_of_a_code_where_a_script_has_no_blanks(text: str) -> None:
    found = find_code("登录", text)

    assert found is not None
    assert found.text == "482913"


def test_the_number_of_a_permit_below_a_mail_is_no_code() -> None:
    assert (
        find_code("登录提醒", "您的账号在新设备登录,请确认是本人。增值电信业务经营许可证:粤B2-20090059")
        is None
    )


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


@pytest.mark.parametrize(
    "text",
    [
        "Your previous verification code 771204 has expired. The new one is 482913.",
        "Ihr alter Bestätigungscode 771204 ist abgelaufen. Der neue Bestätigungscode lautet 482913.",
        "之前的验证码 771204 已失效,新的验证码是 482913。",
    ],
)
def test_a_code_that_holds_no_longer_is_not_told(text: str) -> None:
    found = find_code("Sign in", text)

    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize(
    "text",
    [
        "Press 4820 in the app and the notebook opens.",
        "Drück 4820 in der App, dann geht es weiter.",
        "Appuie sur 4820 dans l'appli.",
        "Нажми 4820 в приложении, и тетрадь откроется.",
        "请把 4820 写进框里。",
        "画面の枠に 4820 と書いてください。",
        "앱에 4820 을 적어 주세요.",
    ],
)
def test_a_number_that_is_to_be_put_in_on_a_screen_is_a_code_though_nothing_names_it(text: str) -> None:
    found = find_code("Almost there", text)

    assert found is not None
    assert found.text == "4820"


def test_blocks_in_blocks_do_not_part_a_code_from_its_name() -> None:
    deep = "</div></td></tr></table></div><div><table><tr><td><div>"
    markup = (
        f"<div>Here is the code to sign in to your account:{deep}From Poland{deep}K7TPQ{deep}Thank you</div>"
    )

    found = code_of("New device", "", markup)

    assert found is not None
    assert found.text == "K7TPQ"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Savings", "You put 5000 in the box on Monday. Sign in to see it."),
        ("Alphabet", "Learn 26 letters with 4820 other pupils. Sign in today."),
        ("API", "Your API access key AKIA48213 was rotated."),
        ("Old code is gone", "We removed 48213 lines of old code. Sign in to see the diff."),
        ("Rücksendung", "Geben Sie die Retoure 4820417 in der Filiale ab."),
    ],
)
def test_ordinary_words_that_are_like_those_of_codes_make_no_number_a_code(subject: str, text: str) -> None:
    assert find_code(subject, text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Paste 29174635 in the window that you left open.",
        "Collez 29174635 dans la page restée ouverte.",
        "Pega 29174635 en la ventana abierta.",
        "Вставьте 29174635 в открытое окно.",
    ],
)
def test_what_is_to_be_pasted_into_a_page_is_no_phone_number(text: str) -> None:
    found = find_code("Forgot your password? Mot de passe oublié", text)

    assert found is not None
    assert found.text == "29174635"


@pytest.mark.parametrize(
    "text",
    [
        "In der App 41907 eintippen, fertig.",
        "Dans l'appli, composez 41907 et l'enceinte est à vous.",
        "确认请在电视上按 41907 确认。",
        "確認のため 41907 をアプリで入力します。",
    ],
)
def test_a_number_next_to_an_order_is_a_code_if_its_sentence_names_where_it_is_typed(text: str) -> None:
    found = find_code("One more thing", text)

    assert found is not None
    assert found.text == "41907"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Invita y gana", "Comparte tu código de invitación KQ4829 y gana 10 € por cada registro."),
        ("Parrainage", "Partagez votre code parrain KQ4829 et recevez 10 € pour chaque inscription."),
        ("特典コードのお知らせ", "ゲーム内で特典コード「HW2KQ7TX」を入力するとアイテムがもらえます。"),
    ],
)
def test_the_code_of_an_invitation_or_a_gift_is_none(subject: str, text: str) -> None:
    assert find_code(subject, text) is None


def test_a_number_that_is_a_tickets_elsewhere_in_the_mail_is_no_code() -> None:
    text = "Le responderemos en 48 horas. Indique el número 482913 en sus comunicaciones."
    assert find_code("Incidencia 482913 registrada", text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Geben Sie auf der Seite 482913 an.",
        "Your new number ends in **** 2209. Key in 482913 in the app.",
        "휴대폰 0171 *** 2209 변경: 앱에 482913을 입력하세요. 문의는 1588-2209로 전화해 주세요.",
        "登録画面に 482913 と入力してください。ご不明な点は 1588-2209 までご連絡ください。",
        "签署页需要您提供\n\n482913",
    ],
)
def test_a_number_that_is_masked_or_to_be_called_is_no_code_beside_one(text: str) -> None:
    found = find_code("Confirm your sign-in", text)
    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize(
    "text", ["본인이 아니면 1588-2209로 전화해 주세요.", "ご本人でない場合は 1588-2209 までご連絡ください。"]
)
def test_a_number_to_be_called_is_no_code(text: str) -> None:
    assert find_code("Confirm your sign-in", text) is None


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


def test_what_a_warning_counts_is_no_code() -> None:
    assert find_code("Stay safe", "We never ask for your login code. We stopped 48213 scams in 2025.") is None


@pytest.mark.parametrize(
    "text",
    [
        "Item\nPrice\n120\n350\nTotal\n470\nVerify your order by signing in.",
        "Confirm your reading. Your code for the meter:\n\nOpening times\n09\n17\n30\n",
        "Confirm your account to see this week's numbers:\n12\n34\n56\nGood luck",
        "Sign in to see the score\nTeam A\n102\n098\nTeam B",
        "Your appointment\n10\n30\n45\nConfirm by code",
    ],
)
def test_prices_hours_and_scores_on_lines_of_their_own_are_no_groups_of_a_code(text: str) -> None:
    assert find_code("Sign in", text) is None


@pytest.mark.parametrize(
    "text", ["您的登录验证码为\n482\n913\n请勿泄露", "Your code:\n\n482\n\n913\n\nThanks"]
)
def test_groups_below_a_line_about_a_code_are_one(text: str) -> None:
    found = find_code("Sign in", text)

    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize(
    "text",
    ["验证码482913起5分钟内有效", "验证码：482913通过此码登录", "验证码 482913 通知：请勿泄露"],
)
def test_a_word_behind_a_code_that_begins_as_a_unit_makes_no_count_of_it(text: str) -> None:
    found = find_code("登录", text)

    assert found is not None
    assert found.text == "482913"


def test_calls_and_cases_that_were_counted_are_no_codes() -> None:
    assert find_code("登录提醒", "本月拦截 48213 起诈骗、48217 通电话，请勿泄露验证码") is None


def test_the_code_of_a_new_bank_is_not_that_of_a_bank_that_sends_one() -> None:
    assert find_code("Bank", "Your new bank code is 370400. Sign in to online banking.") is None


@pytest.mark.parametrize(
    "subject",
    [
        "Session code BW-7714 for the console",
        "Sitzungscode BW-7714 für die Verwaltung",
        "Code de session BW-7714 pour l'administration",
        "Código de sesión BW-7714 para administración",
        "Код сеанса BW-7714 для администрирования",
        "会话码 BW-7714",
        "セッションコード BW-7714",
        "세션 코드 BW-7714",
    ],
)
def test_the_code_of_a_session_is_one(subject: str) -> None:
    found = find_code(subject, "From 198.51.100.7.")

    assert found is not None
    assert found.text == "7714"


def test_neither_a_labelled_cell_nor_a_voucher_for_the_next_order_is_a_code() -> None:
    rows = "<tr><td>Silla plegable</td></tr><tr><td>Ref.</td><td>448120</td></tr>"
    markup = f"<table>{rows}</table><p>Usa el código VERANO20 en tu próxima compra.</p>"

    assert code_of("Pedido confirmado", "", markup) is None


def test_the_code_of_a_customer_is_none() -> None:
    assert find_code("Rechnung", "Bitte geben Sie den Kundencode 77120 bei der Überweisung an.") is None
