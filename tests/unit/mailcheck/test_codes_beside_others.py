"""What stands around a number: names of codes over some words, and names of other things."""

import pytest

from huahuo.mailcheck.codes.finding import find_code


@pytest.mark.parametrize(
    ("subject", "text"),
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
)
def test_a_name_some_words_from_a_code_announces_it(subject: str, text: str) -> None:
    found = find_code(subject, text)

    assert found is not None
    assert found.text == "482913"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
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
)
def test_the_number_of_another_thing_is_no_code_in_a_mail_about_signing_in(subject: str, text: str) -> None:
    assert find_code(subject, text) is None
