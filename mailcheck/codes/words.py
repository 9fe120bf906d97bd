"""What people write around a code, in lower case: zh, en, ja, ko, de, fr, es, ru. Data only."""

import unicodedata
from typing import Final

_SIMPLE: Final = str.maketrans(
    "碼驗證認動態啟號帳戶錄輸註數將請轉設綁臨時條優惠邀兌換貨郵單訂發電話會議編",
    "码验证认动态启号账户录输注数将请转设绑临时条优惠邀兑换货邮单订发电话会议编",
)


def simple(lower: str) -> str:
    """`lower` with simplified characters, where the lists below have traditional ones: one form is enough."""
    return lower.translate(_SIMPLE)


def listed(words: str) -> tuple[str, ...]:
    """The words of a text that has `|` between them."""
    shown = unicodedata.normalize("NFKC", words)  # as `plain` does with texts: `№` is two letters
    return tuple(dict.fromkeys(simple(word.strip()) for word in shown.split("|")))


STRONG: Final = listed(
    """
    verification code | verify code | security code | authentication code | pairing code | one-time code |
    one time code | single-use code | login code | log-in code | sign-in code | signin code |
    sign in code | activation code | one-time password | recovery code | one time password |
    one-time passcode | otp | one-time pin | verification pin | 2fa code | two-factor code |
    temporary code | device code | verification number | login pin | sign-in pin | one-time key |
    dynamic password | transaction password | single-use password | temporary password | temporary pin |
    reset code | unlock code | bestätigungscode | verifizierungscode | sicherheitscode | einmalcode |
    einmal-code | anmeldecode | anmelde-code | login-code | aktivierungscode | einmalpasswort |
    einmalkennwort | prüfcode | authentifizierungscode | bestätigungs-code | verifizierungs-code |
    freischaltcode | sicherheits-code | freigabecode | kopplungscode | einmal-pin | einmal-passwort |
    transaktionsnummer | ihre tan | die tan | mtan | smstan | sms-tan | pushtan | push-tan | chiptan |
    bestätigungsnummer für | wiederherstellungscode | code de vérification | code de verification |
    code de sécurité | code de confirmation | code de connexion | code d'authentification |
    code d'activation | code à usage unique | mot de passe à usage unique | code temporaire |
    code de validation | code unique | clé d'activation | code d’authentification | code d’activation |
    mot de passe temporaire | code d'identification | code de récupération | code d'association |
    code d'appairage | código de verificación | codigo de verificacion | clave temporal |
    contraseña temporal | código de seguridad | código de confirmación | código de inicio de sesión |
    clave de acceso | código de activación | código de un solo uso | contraseña de un solo uso |
    clave de un solo uso | código de autenticación | código único | código temporal | clave dinámica |
    código de validación | código de recuperación | código de vinculación | clave de operación |
    clave de confirmación | 验证码 | 驗證碼 | 校验码 | 動態碼 | 动态码 | 动态密码 | 動態密碼 | 确认码 |
    確認碼 | 激活码 | 啟用碼 | 安全码 | 安全碼 | 安全代码 | 验证代码 | 动态口令 | 登录口令 | 登录密令 |
    授权口令 | 确认口令 | 一次性密码 | 一次性密碼 | 一次性口令 | 登录码 | 登入碼 | 登陆码 | 注册码 |
    授权码为 | 绑定码 | 配对码 | 認証番号 | 認証コード | 確認コード | 検証コード | セキュリティコード |
    ワンタイムパスワード | ワンタイムコード | ログインコード | 本人確認コード | 認証キー |
    アクティベーションコード | ワンタイムキー | 仮パスワード | 有効化コード | ペアリングコード |
    인증번호 | 인증 번호 | 인증코드 | 인증 코드 | 확인 코드 | 확인코드 | 확인번호 | 확인 번호 |
    보안 코드 | 보안코드 | 일회용 비밀번호 | 일회용 코드 | 로그인 코드 | 일회용 인증 | 승인번호 입력 |
    임시 비밀번호 | код подтверждения | код проверки | проверочный код | код безопасности |
    код для входа | код входа | одноразовый код | одноразовый пароль | код активации | код верификации |
    кодом подтверждения | код аутентификации | защитный код | кода подтверждения | одноразового пароля |
    временный код | временный пароль | разовый пароль | разовый код | пароль для входа | код привязки |
    код восстановления
    """
)
"""A code is near."""

DOUBLE: Final = listed(
    """
    confirmation code | access code | access pin | passcode | pass code | zugangscode | code d'accès |
    code d’accès |
    access key | access token | zugangsschlüssel | clé d'accès | clé d’accès | ключ доступа | アクセスキー |
    アクセスコード | 访问密钥 | 访问码 | 접속 키 | code secret | código de acceso | code de retrait |
    código de retiro | código de retirada | パスコード | код доступа
    """
)
"""A code is near, except in mails about a meeting, a journey and the like (`ELSEWHERE`)."""

BOUGHT: Final = listed(
    """
    authorization code | authorisation code | code d'autorisation | code d’autorisation |
    código de autorización | autorisierungscode | код авторизации | 授权码 | 승인번호 | 승인 번호 |
    承認番号 | 確認番号
    """
)
"""A code is near, except in mails about something bought: a receipt has that of the bank."""

ONCE: Final = listed(
    """
    one-time | one-off | one time use | single-use | works once | only works once | lets you in once |
    used once | einmalig | einmal-ziffern | kurzzeitig | à usage unique | utilisable une seule fois |
    单次使用 | temporaire | provisoire | provisional | vorläufig | de un solo uso | un único uso |
    одноразов | разовый | разовая | 一次性 | 仅限一次 | 動態 | 动态 | ワンタイム | 1回だけ | 1回限り |
    一度だけ | 一度限り | 使い捨て | 일회용 | 일회성 | 한 번만 | 1회용
    """
)
"""Said of what can be used once: it is a code, whatever noun follows."""

WEAK: Final = listed(
    """
    with the number | with this number | mit der nummer | mit dieser nummer | mit der zahl | mit dieser zahl |
    avec le numéro | avec ce numéro | con el número | con este número | с номером |
    letters below | these letters | following letters | folgende buchstaben | diese buchstaben |
    buchstaben unten | lettres suivantes | ces lettres | lettres ci-dessous | siguientes letras |
    estas letras | следующие буквы | эти буквы | буквы ниже | 以下字母 | 下列字母 | 这些字母 | 位字母 |
    다음 글자 | 아래 글자 | schlüssel | key | anmeldenummer | geheimzahl | geheimnummer | kennziffer |
    cette clé | esta llave | 合言葉 | 合い言葉 | 暗語 | 口令 | 暗号 | 암호 | 钥匙 | 鍵 | 열쇠 | code |
    código | codigo | clave | pin | pin-code | pin code | to sign in | to finish signing in | to log in |
    to finish logging in | digits | digit number | characters | sign-in number | this number |
    the number below | the numbers below | following number | following numbers | ziffern | zeichenfolge |
    zahlenfolge | folgende zahl | diese zahl | tan | chiffres | caractères | clé | clef | dígitos | cifras |
    caracteres | siguiente número | este número | цифры | цифр | числа | число | комбинацию | комбинация |
    символы | ключ | 位数字 | 位數字 | 数字 | 數字 | 字符 | 字元 | 字串 | 短码 | 代码 | 代碼 | 密码 | 密碼 |
    暗証番号 | 桁の番号 | 桁の数字 | 次の番号 | 下記の番号 | 用の番号 | 以下の番号 | この番号 | 文字列 |
    英数字 |
    コード | 숫자 | 자리 번호 | 다음 번호 | 아래 번호 | 이 번호 | 정 번호 | 설정번호 | 문자 | 코드 | код |
    пин-код | пин
    """
)
"""A code is near if the mail is about signing in, or asks to enter it."""

CLOSE: Final = listed(
    """
    magic number | secret number | secret word | watchword | geheime zahl | losung | losungswort |
    magische zahl | mot secret | nombre secret | número secreto | palabra secreta | секретное слово |
    секретное число | the new one is | the new one | der neue lautet | le nouveau est | el nuevo es |
    la nueva es | новый код | 新的是 | password | passwort | kennwort | mot de passe | contraseña |
    パスワード | 비밀번호 | пароль | identifiant | kennung | lautet | lauten | here it is | here they are |
    here you go | le voici | la voici | les voici | aquí está | aquí lo tienes | aquí la tienes | вот он |
    вот она | вот оно | вот они
    """
)
"""A code is directly next to it, in a mail about signing in."""

ATTACHED: Final = listed(
    """
    用 | 登録 | 連携 | 接続 | 再設定 | 解除 | 承認 | 取引 | 送金 | 端末 | 追加 | 회원가입 | 등록 | 연결 |
    접속 | 재설정 | 해제 | 승인 | 연동 | 입력
    """
)
"""What may stand directly before コード and 코드; else they are codes of another kind."""

YOURS: Final = listed(
    """
    your code | this code | your pin | dein code | ihr code | deine pin | ihre pin | votre code |
    ton code | tu código | su código | tu clave | su clave | ваш код | твой код | ваш пароль | コードは |
    코드는 | 您的码
    """
)

COMPOUND_ENDS: Final = ("code", "pin", "tan", "ziffern", "passwort", "kennwort")
"""Of words that are made at will, `Zahlencode`: weak ones, unless their beginning names another kind."""

KINDS: Final = listed(
    """
    neukunden | empfehlungs | freunde | einladungs | vorteils | spar | treue | partner | wlan | wifi |
    promo | gutschein | rabatt | aktions | bonus | buchungs | reservierungs | abhol | fehler | quell |
    strich | bar | qr | post | länder | kenn | tür | farb | zip | status | exit | swift | tracking |
    dress | en | de | uni | op | bank | tor | schrank | fach | tresor | haus | kapi | kauf | kaf | ori |
    source | byte | morse | konferenz | gast | geschenk | storno | kunden | lieferanten | händler |
    retouren | rücksende | rückgabe | garantie | reparatur | versand | liefer |
    mandanten | mitglieds | artikel | produkt | material | bestell | auftrags | rechnungs | kassen |
    filial | personal | projekt | vertrags | steuer | kostenstellen | abteilungs | raum | platz | sitz
    """
)
KINDS_WIDE: Final = listed(
    """
    二维 | 二維 | 条 | 條 | 号 | 號 | 编 | 編 | 源 | 乱 | 亂 | 解 | 折扣 | 优惠 | 優惠 | 邀请 | 邀請 |
    识别 | 机器 | 设备 | 追踪 | 行程 | 商品 | 订单 | 物流 | 兑换 | 兌換 | 取件 | 提货 | 提貨 | 取货 | 验真 |
    核销 | 推荐 | 推薦 | 区 | 區 | 付款 | 收款 | 健康 |
    券 | 邮 | 郵 | 密 | 数 | 數 | 筹 | 价 | 起 | 加 | 尺 | 代
    """
)
"""Beginnings of words that end in `COMPOUND_ENDS` or 码 and name no code."""

SIGN_IN: Final = listed(
    """
    new password | neues passwort | neues kennwort | nouveau mot de passe | nueva contraseña | новый пароль |
    新密码 | 새 비밀번호 | 초기화 | メールアドレスの変更 | メールアドレスの確認 | アドレスをご確認 |
    アドレスの確認 | 이메일 변경 |
    이메일 확인 | 주소를 확인 | 이메일 주소 확인 | 更换邮箱 | 确认邮箱 | 您的邮箱 | вывод средств |
    на вывод | account is locked | locked your account | unlock your account | locked out | gesperrt |
    entsperr | bloqué | déblo | bloquead | desbloque | заблокир | разблокир | 锁定 | 解锁 | ロック | 잠금 |
    잠겼 | sign in | sign-in | signin | signing in | log in | login | logging in | verify | verification |
    authentic | authentif | autentic | autentif | authentis | аутентиф | two-factor | 2-step |
    enter this code | enter the code | use this code | following code | confirm your | confirm it |
    confirm that | approve | transfer | withdraw | authoris | authoriz | is this you | is it you |
    was it you | reset your password | password reset | lost your password | forgot | account recovery |
    recover your | new browser | access to | your account | new device | connect your | activate your |
    finish registering | pair your | link your | join the | anmeld | aktivier | zugang | ihres kontos |
    ihr konto | dein konto | freischalt | freizuschalten | zugriff | deines kontos | autoris | autoriz |
    zurücksetz | freigeb | überweis | freigabe | einlogg | bestätig | verifizier | registrier |
    sind sie es | waren sie das | warst du das | passwort vergessen | neues gerät | koppel | verbinden |
    votre compte | l'accès | accéder à | réinitialis | connexion | connecter | vérifi | identité |
    inscription | bien vous | nouvel appareil | connecte | nouvel accès | associer | validation | valider |
    virement | bénéficiaire | validez | activation | activez | confirmez | s'identifier | tu cuenta |
    su cuenta | el acceso | restablecer | iniciar sesión | acceso a | para entrar | para firmar |
    inicio de sesión | verific | identidad | registro | confirmar | transferencia | dar luz verde |
    confirma | confirme | eres tú | has sido tú | ha sido usted | es usted | nuevo dispositivo | vincula |
    activa tu | active su | intenta entrar | entrar en tu cuenta | acceder a tu | firmar |
    olvidado tu contraseña | 登录 | 登入 | 登陆 | 注册 | 註冊 | 验证 | 驗證 | 身份 | 身分 | 本人 | 重置 |
    重設 | 找回 | 绑定 | 綁定 | 解绑 | 激活 | 访问 | 账户 | 帐号 | 账号 | 连接 | 連接 | 授权 | 认证 | 認證 |
    認証 | 本人確認 | 转账 | 提现 | ご本人 | 登録 | ログイン | サインイン | 振込 | 出金 | アクセスがあり |
    接続 | 再設定 | 連携 | 新しい端末 | 계정 | 로그인 | 인증 | 가입 | 본인 | 재설정 | 접속 | 새 기기 |
    새로운 기기 | 접근 | 연결 | 이체 | 출금 | 송금 | сброс | восстанов | вход | войти | войдите |
    подтвержд | подтверд | регистрац | авториз | разрешить | перевод | это вы | новом устройстве | аккаунт |
    учётн | учетной | новое устройство | доступ | привяз | активац | подключ | смена почты | смены пароля |
    recuperar la cuenta | recuperar tu cuenta | recuperar su cuenta | recuperación de | wiederherstell |
    récupérer votre compte | récupération du compte | 復元 | 復旧 | 복구 |
    등록을 마치 | 등록을 완료 | 등록하려면 | 등록하시려면 | 引き継ぎ | 引継 | beneficiari | payee |
    получател | 收款人 | 受取人 | 수취인 | empareja | appair |
    сопряж | 配对 |
    ペアリング | 페어링 | autoríc | confírm | valíd | verifíq | подпис | pour signer | unterzeich | 签署 |
    電子署名 | 전자서명
    """
)
"""What a mail about signing in, or about approving something, says."""

TELLS: Final = listed(
    """
    ignore this | disregard this | didn't request | did not request | didn't ask for | did not ask for |
    didn't start this | wasn't you | was not you | if it wasn't | do not share | don't share | never share |
    keep it to yourself | don't pass it on | do not pass it on | don't tell anyone | do not tell |
    tell it to any |
    an niemanden weiter | niemandem weiter | niemandem zeigen | nicht weitergeben | à personne d'autre |
    ne le donnez | ne la donnez | ne le transmettez | a nadie | no lo digas | no la digas | не говорите |
    не показывайте | 给别人 | 告诉别人 | 告诉任何人 | 给任何人 | 他人に | 人に見せ | 다른 사람에게 |
    누구에게도 | never read | do not read this | don't read this | stops working | stop working | minutes |
    nicht weiter | ignorieren | nicht angefordert | waren sie das nicht | minuten gültig | verfällt in |
    läuft in | niemals weiter | geben sie ihn niemandem | gilt für eine | teilen sie ihn mit niemand |
    teilen sie sie mit niemand | teile ihn mit niemand | mit niemandem | ne le communiquez |
    ne la communiquez | ne partagez | ne communiquez | ignorez ce | si ce n'est pas vous |
    à l'origine de cette demande | dans dix minutes | no la compartas | no lo compartas | no compartas |
    ignora este | ignore este | si no has sido tú | si no lo has | si no fuiste | minutos | 勿泄露 |
    请勿转发 | 請勿轉 | 勿告知 | 不要告诉 | 勿告诉 | 切勿 | 勿截图 | 勿外泄 | 分钟内 | 分鐘內 | 秒内 |
    秒內 | 非本人操作 | 请忽略 | 不要理会 | 心当たりがない | 心当たりのない | お心当たり | 教えないで |
    分以内 | 分間有効 | 破棄してください | 요청하지 않 | 본인이 아니 | 알려주지 | 공유하지 | 분 이내 |
    분 안에 | 분이 지나면 | 분간 유효 | 무시하세요 | 무시해 | никому | не сообщайте | не передавайте |
    если это не вы | если не вы | если вы не | проигнорируйте | не запрашивали | минут
    """
)
"""What mails with a code say besides: that it ends soon, is nobody else's business, or to be ignored."""

ENDS: Final = listed(
    """
    expires in | valid for | good for one | gültig bis | expire dans | expirent dans | valable pendant |
    caduca en | vence en | válido durante | 有效期 | 有効期限 | действует | действителен | 유효
    """
)
"""Said of codes, and of vouchers and tickets too."""

ENTER: Final = listed(
    """
    enter | entering | typing | put in | reply with | respond with | answer with | show | type | type in |
    key in | provide | quote it | read it out | insert | paste | copy | submit | fill in | input |
    punch in | confirm it's you with | confirm with | authorise with | authorize with | approve with |
    approve it with | unlock with | unlock it with | verify with | sign it with | release it with |
    give us | geben sie | gib | trag | tipp | kopier | tippen sie | tippe | tragen sie | trage |
    kopieren sie | kopiere | übertragen sie | erfassen sie | fügen sie | nennen sie | eingeben | eintippen |
    eintragen | saisissez | saisir | notez | notez-le | entrez | tapez | indiquez | composez | recopiez |
    inscrivez | fournissez | dictez | dicter | dicta | dicte | dictate | diktieren sie | diktiere |
    продиктуйте | copiez | collez | renseignez | reportez | saisissez-la | saisissez-le | marca | marque |
    introduce | introduzca | introducir | ingresa | ingrese | escribe | escriba | escribir | teclea |
    teclee | indica | indique | digita | digite | copia | copie | pega | pegue | pon | anota | введите |
    укажите | наберите | назовите | заполните | впишите | вставьте | скопируйте | впечатайте | ввести |
    напишите | 输入 | 輸入 | 填写 | 填寫 | 填入 | 填上 | 报给 | 键入 | 粘贴 | 回复 | 回覆 | 请把 | 请将 |
    請將 | 回填 | 入力してください | ご入力ください | 入力画面に | ご記入ください | 記入してください |
    입력하세요 | 채워 주세요 | 넣어 주세요 | 넣으세요 | 입력해 | 적어 주세요 | 적으세요 | 입력하시
    """
)
"""In a mail about signing in: a code if it follows at once, or stands alone on one of the next lines."""

ON_SCREEN: Final = (
    r"\s(?:in|into|on|im|ins|auf|dans|sur|en|na|в|на)\s(?:[^\W\d_]+['’ ]){0,2}"
    r"(?:app|application|appli|screen|page|window|field|box|browser|tablet|tv|phone|site|website|form|dialog|device|watch|terminal|station|machine|"
    r"bildschirm|seite|fenster|feld|handy|gerät|fernseher|uhr|säule|automaten|écran|montre|borne|fenêtre|champ|case|navigateur|téléphone|télé|"
    r"aplicación|pantalla|página|ventana|campo|casilla|navegador|teléfono|móvil|tele|reloj|dispositivo|"
    r"приложении|экране|странице|окне|окошке|поле|браузере|телефоне|сайте|телевизоре|станции|терминале|часах|устройстве)\s"
)
"""After an order: where on a screen it is to be done."""

PUT: Final = listed(
    """
    press | pop | key | punch | drück | drücken sie | drücke | schreib | schreiben sie | appuie sur |
    appuyez sur | tape | écris | écrivez | glisse | glissez | presse | pulsa | pulse | presiona | presione |
    teclea | нажми | нажмите | напиши | вбей | вбейте | впиши
    """
)
"""Before a number that is to be put in somewhere on a screen: `press 4820 in the app`."""

USE: Final = listed(
    """
    use | using | verwenden sie | verwende | nutzen sie | nutze | benutzen sie | benutze | mit |
    utilisez | utilise | servez-vous de | avec | utiliza | usa el | usa la | utilice | use la | use el |
    con | используйте | воспользуйтесь | 使用 | 凭
    """
)
"""In a mail about signing in: a code if it follows at once."""

ASKS_AFTER: Final = listed(
    """
    use it to | use this to | 입력 | 入力 | eingeben | eintippen | eintragen | を入力 | をご入力 |
    と入力 | を画面に入力 | をご記入 | 을 입력 | 를 입력 | 을 넣 | 를 넣 | 을(를) 입력 | 을 적어 |
    를 적어 | 填到 | 填入 | 填写到 | 填在 | 输入到 | 输入后 | 輸入後
    """
)
"""In a mail about signing in: a code if it stands directly before."""

FILLERS: Final = (
    r"(?:[^\w.!?]{0,6}(?:please|bitte|por favor|el número|le numéro|d(?:ie|er) (?:nummer|zahl)|dem code|"
    r"номер|the|these|this|in|below|now|number|les chiffres|le|la|el|"
    r"los dígitos|число|числа|цифры|пароль|код|key|pin|password|numbers|digits)?){0,2}[^\w.!?]{0,6}"
)
"""What may stand between an order and its number."""

LEADS: Final = r"\s*(?:[-:|·(,=]|\bis\b|\bist\b|\best\b|\bes\b|は|が|是|은|는|이|为|$|\n)"
"""After a number with which the subject begins, if the subject is about it: `482913 - your account`."""
