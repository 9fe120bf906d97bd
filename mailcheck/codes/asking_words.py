"""What a mail says that asks for something to be typed, whatever it calls it: parts of words, lower case.

Weaker than `words`: they are weighed with all else that a mail shows (`evidence`), none of them alone.
"""

import re
from typing import Final

from huahuo.mailcheck.codes.words import listed, simple

ASKS: Final = listed(
    """
    enter | type | key | pop | drop | tap | copy | paste | answer | reply | tell | quote | punch | press |
    write | put | submit | read | show | give | say | eingeb | gib | geben sie | tipp | drück | schreib |
    вбей | вбив | 入れ | 쳐 | dictat | diktier | dict | продикт | antwort | nenn | zeig | lies | lesen sie |
    lisez | lis-nous | léenos | lee | прочт | прочит | 念 | 読み | 읽 | eintrag | trag | sag | saisi |
    entrez | tape | recopi | écri | répond | donn | gliss | indiq | dites | montre | introdu | ingres |
    escrib | tecle | marca | copia | respond | pon | dile | indica | dime | demuestra | введ | набер |
    нажм | впиш | перепиш | напиш | ответ | назов | укаж | скопир | скаж | покаж | вставь | 输入 | 填 | 敲 |
    provide | supply | present | fourni | présente | mets | mettez | facilit | aport | proporcion |
    vorleg | angeb | предъяв | предостав | сообщ | 提供 | 提示 | 出示 | 提交 | 제시 | 제출 |
    回 | 答 | 键入 | 抄 | 写进 | 告诉 | 报 | 入力 | 打 | 書 | 返事 | 押 | 伝え | 記入 | 教え | 입력 | 적어 |
    치 | 답 | 누르 | 눌 | 써 | 넣 | 알려 | 옮겨
    """
)
"""What one does with a code."""

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

SCREEN: Final = listed(
    """
    the app | our app | your app | in-app | bank's app | application | screen | page | window |
    the field | the box | a box | browser | website | the site | our site | your site | the form |
    keypad | the tv | your tv | a tv | television | tablet | phone | laptop | computer | console |
    speaker | device | display | der app | die app | unsere app | unserer app | bildschirm | seite |
    fenster | feld | handy | gerät | fernseher | rechner | formular | lautsprecher | l'app | l’app |
    une app | écran | fenêtre | la case | champ | navigateur | téléphone | la télé | votre télé |
    ordinateur | formulaire | enceinte | appareil | la app | tu app | aplicación | pantalla | página |
    ventana | casilla | campo | navegador | teléfono | móvil | la tele | tu tele | ordenador | altavoz |
    dispositivo | equipo | la web | приложени | экран | страниц | окно | окошк | в поле | браузер |
    телефон | сайт | телевизор | компьютер | ноутбук | колонк | устройств | форму | форме | планшет |
    屏幕 | 画面 | 页面 | 网页 | 窗口 | 输入框 | 框里 | 浏览器 | 手机 | 电视 | 电脑 | 应用 | 设备 |
    客户端 | 平板 | 音箱 | アプリ | ページ | ウィンドウ | 欄 | 枠 | ブラウザ | スマホ | テレビ |
    パソコン | 端末 | サイト | スピーカー | タブレット | 앱 | 화면 | 페이지 | 창에 | 칸 | 브라우저 |
    휴대폰 | 티비 | 컴퓨터 | 노트북 | 기기 | 사이트 | 스피커 | 태블릿
    """
)
"""Where something is typed: a screen, a part of one, or a machine that has one."""

IS: Final = re.compile(r"(?:\b(?:is|are|ist|lautet|lauten|est|sont|es|son|это)|[是为はは은는이])\W{0,3}$")
WITH: Final = re.compile(r"\b(?:with|by|mit|avec|con|числом|цифрами|кодом)\s?$|[用凭]\s?$")
"""Directly before a number that one answers with."""
