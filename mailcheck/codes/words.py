"""What people write around a code, in lower case: zh, en, ja, ko, de, fr, es, ru. Data only."""

from typing import Final


def _words(listed: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in listed.split("|"))


STRONG: Final = _words(
    """
    verification code | verify code | security code | confirmation code | authentication code |
    one-time code | one time code | single-use code | login code | log-in code | sign-in code |
    signin code | sign in code | access code | activation code | passcode | one-time password |
    one time password | one-time passcode | otp | one-time pin | verification pin | 2fa code |
    two-factor code | temporary code | device code | verification number | bestätigungscode |
    verifizierungscode | sicherheitscode | einmalcode | einmal-code | anmeldecode | anmelde-code |
    login-code | zugangscode | aktivierungscode | einmalpasswort | einmalkennwort | prüfcode |
    authentifizierungscode | bestätigungs-code | verifizierungs-code | freischaltcode | sicherheits-code |
    code de vérification | code de verification | code de sécurité | code de confirmation |
    code de connexion | code d'accès | code d'authentification | code d'activation | code à usage unique |
    mot de passe à usage unique | code temporaire | code de validation | code unique | code d’accès |
    code d’authentification | code d’activation | código de verificación | codigo de verificacion |
    código de seguridad | código de confirmación | código de acceso | código de inicio de sesión |
    código de activación | código de un solo uso | contraseña de un solo uso | clave de un solo uso |
    código de autenticación | código único | código temporal | clave dinámica | código de validación |
    验证码 | 驗證碼 | 校验码 | 动态码 | 动态密码 | 确认码 | 激活码 | 安全码 | 安全代码 | 验证代码 |
    一次性密码 | 登录码 | 登陆码 | 認証番号 | 確認番号 |
    認証コード | 確認コード | 検証コード | セキュリティコード | ワンタイムパスワード | ワンタイムコード |
    ログインコード | 本人確認コード | 認証キー | アクティベーションコード | パスコード |
    인증번호 | 인증 번호 | 인증코드 | 인증 코드 | 확인 코드 | 확인코드 | 보안 코드 | 보안코드 |
    일회용 비밀번호 | 일회용 코드 | 로그인 코드 | 일회용 인증 |
    код подтверждения | код проверки | проверочный код | код безопасности | код доступа | код для входа |
    код входа | одноразовый код | одноразовый пароль | код активации | код авторизации | код верификации |
    кодом подтверждения | код аутентификации | защитный код | кода подтверждения | одноразового пароля
    """
)
"""A code is near."""

WEAK: Final = _words(
    """
    code | código | codigo | clave | pin | pin-code | pin code | to sign in | to finish signing in |
    to log in | to finish logging in | digits | digit number | ziffern | chiffres | dígitos | cifras |
    цифры | цифр | 位数字 | 桁の番号 | 桁の数字 | 次の番号 | 下記の番号 | 숫자 | 자리 번호 |
    代码 | 密码 | 口令 | 以下数字 | 下面的数字 | 下列数字 |
    コード |
    코드 |
    код | пароль
    """
)
"""A code is near if the mail is about signing in, or asks to enter it."""

SIGN_IN: Final = _words(
    """
    sign in | sign-in | signin | log in | login | verify | verification | two-factor | 2-step |
    enter this code | enter the code | use this code | following code | confirm your | confirm it | approve |
    anmeld | reset your password | authoris | authoriz | autoris | autoriz | zurücksetz | freigeb |
    réinitialis |
    restablecer | сброс | восстанов | 重置 | 找回 | 绑定 | 再設定 | 재설정 |
    einloggen | bestätig | verifizier | registrier | connexion | connecter | vérifi | identité |
    inscription | iniciar sesión | inicio de sesión | verific | identidad | registro | confirmar |
    登录 | 登入 | 注册 | 验证 | 身份 | 認証 | 本人確認 | 登録 |
    ログイン | サインイン |
    로그인 | 인증 | 가입 | 본인 |
    вход | войти | войдите | подтвержд | подтверд | регистрац | авториз
    """
)
"""What a mail about signing in says."""

ASKS: Final = _words(
    """
    enter | type in | key in | insert | use | geben sie | gib | tippen sie | tippe | verwenden sie |
    nutzen sie | saisissez | saisir | entrez | tapez | utilisez | indiquez | composez | introduce |
    introduzca | ingresa | ingrese | escribe | escriba | teclea | digita | utiliza | введите |
    укажите | наберите | используйте | 输入 | 填写
    """
)
"""In a mail about signing in: a code if it follows at once."""

ASKS_AFTER: Final = _words(
    """
    use it to | use this to | eingeben | を入力 | をご入力 | と入力 | 을 입력 | 를 입력 | 을 넣 | 를 넣
    """
)
"""In a mail about signing in: a code if it stands directly before."""

TO_CONTACT: Final = _words(
    """
    to contact | to call | to phone | to reach us | to reach our | to text us | um uns | pour nous |
    pour contacter | para contactar | para llamar | чтобы связаться | 联系 | 致电 | で問い合わせ
    """
)
"""After a number that somebody is to use: it is a phone number."""

LAST: Final = _words(
    "last | final | ending | letzte | letzten | endziffern | derniers | dernières | últimos | últimas |"
    " ultimos | ultimas | последние | последних | последними"
)
LAST_WIDE: Final = _words("后 | 後 | 最后 | 末 | 末尾 | 尾号 | 下 | 最後の | 끝 | 뒤 | 뒷 | 마지막")
DIGITS: Final = _words(
    "digits | digit number | ziffern | stellen | chiffres | dígitos | digitos | cifras | цифры | цифр |"
    " цифрами"
)
DIGITS_WIDE: Final = _words("位数字 | 位 | 桁の番号 | 桁の数字 | 桁 | 자리 숫자 | 자리 번호 | 자리")
"""`last four digits`: the end of a card's or a phone's number, and no code."""

NOT_BEFORE: Final = _words(
    """
    promo | promotion | promotional | discount | coupon | voucher | referral | invite | invitation | zip |
    postal | post | area | country | error | status | source | product | gift | qr | bar | dress |
    tracking | booking | reservation | item | sort | branch | exit | colour | color | building | tax |
    swift | qr- |
    割引 | 郵便 | 商品 | 紹介 | 招待 | 注文 | 予約 | 電話 | 追跡 | 伝票 | 会員 | 受付 | 优惠 | 邀请 |
    错误 | 推广 | 兑换 | 邮政 | 源 | 二维 |
    クーポン | お客様 | プロモーション | バー | エラー | お問い合わせ | ソース |
    할인 | 쿠폰 | 프로모션 | 우편 | 상품 | 에러 | 오류 | 초대 | 추천 | 주문 | 예약 | 전화 | 운송장 |
    송장 | 고객 | 회원 | 등록 | 접수 | 바 | 소스 |
    почтовый | промо | скидочный | штрих | исходный
    """
)
"""Before a weak word: another kind of code."""

NOT_AFTER: Final = _words(
    """
    promo | de réduction | de remise | postal | de descuento | promocional | de parrainage | erreur |
    d'erreur | de error | source | fuente | barre | de barras | qr | review | of conduct | de pedido |
    de suivi | de reserva | civil | de la route | de producto | de referencia | region |
    ошибки | товара | скидки | региона | города | купона
    """
)
"""After a weak word: another kind of code."""

LABELS: Final = _words(
    """
    order | invoice | tracking | reference | ref | case | ticket | booking | reservation | account |
    phone | tel | fax | call | version | room | flight | suite | box | model | sku | item | build |
    customer | member | parcel | shipment | ending in | card | street | year | since | copyright | © |
    (c) | in | of | until | by | total | amount | discount | coupon | voucher | promo code |
    discount code | zip | postal code | error | issue | pr | pull request | article | receipt | iban |
    extension | ext | promo | gift card | zip code | error code | isbn | referral code | tracking code |
    text | order number | confirmation number | commit | 〒 | bestellung | bestellnummer | rechnung |
    rechnungsnummer | sendungsnummer | kundennummer | telefon | auftrag | vorgang | vorgangsnummer |
    buchung | buchungsnummer | plz | gutscheincode | rabattcode | aktenzeichen | ticketnummer | seit |
    nr | nummer | fehlercode | auftragsnummer | aktionscode | konto | artikel | mitgliedsnummer |
    endend auf | hrb | code promo | commande | facture | numéro | réservation | suivi | dossier |
    téléphone | tél | n° | no | client | code postal | depuis | en | référence | billet | colis | compte |
    code de réduction | siren | se terminant par | code erreur | code d'erreur | vol | pedido | factura |
    número | seguimiento | reserva | teléfono | cliente | expediente | código postal | referencia |
    envío | código promocional | código de descuento | desde | núm | cuenta | incidencia | terminada en |
    cupón | código de error | vuelo | № |
    订单 | 订单号 | 运单号 | 快递单号 | 单号 | 编号 | 电话 | 热线 | 客服 | 手机 | 手机号 | 尾号 | 尾号为 |
    金额 | 余额 | 共 | 工单 | 发票 | 邮编 | 优惠码 | 邀请码 | 兑换码 | 取件码 | 积分 | 会员号 | 账号 |
    版本 | qq群 | 航班 | 卡号 | 发票号码 | 致电 | 拨打 | 截至 | 注文番号 | 追跡番号 | 伝票番号 |
    予約番号 | 電話 | 電話番号 | 会員番号 | 受付番号 | 郵便番号 | 請求書番号 | 合計 | 下4桁 | 末尾 |
    商品番号 |
    ご注文番号 | お問い合わせ番号 | お客様番号 | クーポンコード | 割引コード | 紹介コード |
    プロモーションコード | エラーコード | 商品コード | 送り状番号 |
    주문번호 | 주문 번호 | 송장번호 | 운송장 번호 | 운송장번호 | 예약번호 | 예약 번호 | 전화 | 고객센터 |
    회원번호 | 우편번호 | 합계 | 쿠폰 코드 | 쿠폰번호 | 접수번호 | 할인 코드 | 쿠폰코드 | 청구서 번호 |
    총 | 계좌번호 | 문의 | 초대 코드 | 추천 코드 | 상품 번호 | 오류 코드 | 고객번호 | 등록번호 |
    заказ | заказа | заказу | номер | счет | счёт | накладная | трек-номер | телефон | тел | бронь |
    бронирования | договор | договора | обращение | обращения | промокод | промокоду | индекс | сумма |
    карты | заявка | заявки | итого | рейс | код ошибки | клиента | посылка | чек | почтовый индекс
    """
)
"""Directly before a number: it is something else."""

UNITS: Final = _words(
    """
    usd | eur | gbp | cny | rmb | jpy | krw | rub | € | $ | £ | ¥ | ₽ | ₩ | euro | euros | dollars |
    minutes | minute | min | hours | days | seconds | people | users | points | items | km | kg | gb |
    mb | kb | % | percent | members | subscribers | readers | stars | mal | punkte | minuten | stunden |
    tage | uhr | jahre | puntos | minutos | personnes | personas | ans | años | steps | commits | words |
    km/h | m² | downloads | jobs | stellen | offres | ofertas | participants | teilnehmer |
    participantes | kunden | clients | clientes | pasos | seiten | pages | páginas | mails | fälle | cas |
    casos | customers | companies | visitors | changes | zeilen | lignes | líneas | sq | m | m2 |
    元 | 円 | 分钟 | 分 | 点 | 年 | 月 | 日 | 号 | 人 | 位 | 次 | 件 | 个 | 名 | 万 | 积分 | 年度 | 本 |
    冊 | 行 | 回 | 票 | 页 | 篇 | 条 | 封 | 家 | 岁 | 天 | 小时 | 秒 | 吨 | 名様 | 時間 | 分間 |
    ポイント |
    원 | 건 | 줄 | 회 | 장 | 초 | 개 | 명 | 년 | 분 | 시간 | 포인트 | 일 | 월 |
    руб | рублей | евро | года | год | году | г. | минут | баллов | человек | дней | лет | бонусов |
    вакансий | участников | клиентов | страниц | случаев | строк | изменений
    """
)
"""Directly after a number: it is an amount, a time or a year."""
