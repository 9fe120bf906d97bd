"""Names of codes that are made of two words, one for the purpose and one for the thing: `login number`.

Only pairs that name nothing else: a confirmation number is that of an order, a security number of a person.
"""

import re
from collections.abc import Iterable
from itertools import product
from typing import Final

from huahuo.mailcheck.codes.words import simple


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split("|")]


def _pairs(firsts: str, seconds: str) -> Iterable[str]:
    return (f"{first} {second}" for first, second in product(_words(firsts), _words(seconds)))


MADE: Final = tuple(
    dict.fromkeys(
        [
            *_pairs(
                "one-time | one time | single-use | temporary | verification | authentication | login |"
                " log-in | sign-in | sign in | two-factor | two-step | 2-step | passwordless",
                "code | number | numbers | passcode | password | pin | key | token | passphrase | digits",
            ),
            *_pairs(
                "security | reset | unlock | pairing | recovery | approval | validation",
                "code | pin | passcode | token | digits",
            ),
            *_pairs("reset | unlock | recovery", "number | numbers"),
            *_pairs("session", "code | pin | passcode"),
            *_pairs("code | código | код", "de session | de sesión | сеанса | сессии"),
            *_pairs("fallback | enrolment | enrollment | challenge", "code | number | pin | passcode"),
            *_pairs(
                "withdrawal | payout | transfer | signing | signature",
                "code | pin | passcode | password | digits",
            ),
            *_pairs(
                "temporäres | temporärer | vorläufiges | vorübergehendes | einmaliges | einmaliger |"
                " temporäre | einmalige | vorläufige",
                "passwort | kennwort | code | pin | ziffernfolge | zahl | nummer",
            ),
            *(
                f"{first}{second}"
                for first, second in product(
                    _words(
                        "einmal | verifizierungs | sicherheits | anmelde | login | prüf | freigabe | tages |"
                        " aktivierungs | freischalt | zugangs | registrierungs | rücksetz |"
                        " wiederherstellungs | auszahlungs | überweisungs | unterschrifts | signatur"
                    ),
                    _words(
                        "pin | tan | passwort | kennwort | wort | ziffer | ziffern | zahl | zahlenfolge |"
                        " schlüssel | kennzahl"
                    ),
                )
            ),
            *_pairs(
                "code | numéro | clé | chiffre | chiffres | mot de passe | jeton | combinaison | suite",
                "de connexion | de vérification | à usage unique | temporaire | provisoire | dynamique |"
                " d'authentification | d’authentification | de validation",
            ),
            *_pairs(
                "code | numéro | clé | chiffres",
                "de réinitialisation | de récupération | de déblocage | de virement | de signature",
            ),
            *_pairs("chiffre | chiffres | combinaison | clé", "d'accès | d’accès | de sécurité"),
            *_pairs(
                "código | clave | contraseña | número | token | pin | cifra",
                "de verificación | de un solo uso | temporal | dinámico | dinámica | de inicio de sesión |"
                " de autenticación | de ingreso | de un uso",
            ),
            *_pairs(
                "código | clave | número | cifras | dígitos",
                "de restablecimiento | de recuperación | de desbloqueo | de transferencia | de firma",
            ),
            *_pairs("dígitos | cifras", "de acceso | de seguridad | de verificación | de confirmación"),
            *_pairs("clave | contraseña | token | pin", "de acceso | de seguridad"),
            *_pairs("код | номер | пароль | цифры | число", "для сброса | сброса | для восстановления"),
            *_pairs("код | пароль", "вывода | для вывода | для перевода | для подписи"),
            *_pairs(
                "проверочные | защитные | секретные | контрольные | одноразовые | временные",
                "цифры | числа | символы",
            ),
            *_pairs("check | control | secret", "digits"),
            *_pairs("chiffres | dígitos | cifras", "de contrôle | de control"),
            *_pairs("sms", "code | pin | tan | passcode | password"),
            *_pairs("code | código | clave | pin", "sms | recibido por sms | reçu par sms"),
            *_words(
                "einmalnummer | aktivierungsnummer | freischaltnummer | freigabenummer | rücksetznummer |"
                " wiederherstellungsnummer | auszahlungscode | unterschriftscode | signaturcode |"
                " sitzungscode | loginnummer | login-nummer | verifizierungsnummer"
            ),
            *_words("sms-code | смс-код | sms-код | код из смс | код из sms"),
            *_pairs(
                "код | кода | кодом | пароль | пароля | паролем | ключ | число | номер | пин | пин-код |"
                " токен",
                "для входа | входа | подтверждения | проверки | безопасности | для подтверждения |"
                " для проверки | для авторизации | авторизации входа | для восстановления | для сброса",
            ),
            *_pairs(
                "одноразовый | временный | разовый | проверочный | защитный",
                "код | пароль | ключ | пин | пин-код | номер | токен",
            ),
            *_pairs("одноразовое | временное | проверочное | контрольное", "число | слово"),
        ]
    )
)
"""Of scripts with blanks between words, in lower case."""

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
